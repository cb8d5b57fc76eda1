package inject

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	meshv1alpha1 "istio.io/api/mesh/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/identity"
)

// Values is the part of the Helm values that injection reads, as the installer
// stores them in the ConfigMap istio-sidecar-injector under the key "values".
// Keys that injection has no use for may be present.
type Values struct {
	Global                 GlobalValues  `json:"global"`
	SidecarInjectorWebhook WebhookValues `json:"sidecarInjectorWebhook"`
	Revision               string        `json:"revision"`
}

// GlobalValues is values.global.
type GlobalValues struct {
	Hub              string     `json:"hub"`
	Tag              imageTag   `json:"tag"`
	ImagePullPolicy  string     `json:"imagePullPolicy"`
	ImagePullSecrets []string   `json:"imagePullSecrets"`
	IstioNamespace   string     `json:"istioNamespace"`
	JWTPolicy        string     `json:"jwtPolicy"`
	TrustDomain      string     `json:"trustDomain"`
	MeshID           string     `json:"meshID"`
	Network          string     `json:"network"`
	CAAddress        string     `json:"caAddress"`
	MultiCluster     Cluster    `json:"multiCluster"`
	Logging          Logging    `json:"logging"`
	LogAsJSON        bool       `json:"logAsJson"`
	Proxy            ProxyParts `json:"proxy"`
	ProxyInit        ProxyInit  `json:"proxy_init"`
	// PodDNSSearchNamespaces are added to a pod's DNS search list. An entry
	// may hold the pod's namespace, written as Istio's charts write it:
	// {{ valueOrDefault .DeploymentMeta.Namespace "default" }}.
	PodDNSSearchNamespaces []string `json:"podDNSSearchNamespaces"`
}

// image names the image of a part: a name with a slash is whole.
func (g *GlobalValues) image(part string) string {
	switch {
	case part == "":
		return g.image(g.Proxy.Image)
	case strings.Contains(part, "/"):
		return part
	}
	return g.Hub + "/" + part + ":" + string(g.Tag)
}

// Cluster is values.global.multiCluster.
type Cluster struct {
	ClusterName string `json:"clusterName"`
	// GlobalDomainSuffix is the domain of services in other clusters.
	GlobalDomainSuffix string `json:"globalDomainSuffix"`
}

// Logging is values.global.logging.
type Logging struct {
	Level string `json:"level"`
}

// ProxyParts is values.global.proxy.
type ProxyParts struct {
	Image                           string                      `json:"image"`
	LogLevel                        string                      `json:"logLevel"`
	ClusterDomain                   string                      `json:"clusterDomain"`
	Resources                       corev1.ResourceRequirements `json:"resources"`
	HoldApplicationUntilProxyStarts bool                        `json:"holdApplicationUntilProxyStarts"`
	IncludeIPRanges                 string                      `json:"includeIPRanges"`
	ExcludeIPRanges                 string                      `json:"excludeIPRanges"`
	IncludeInboundPorts             string                      `json:"includeInboundPorts"`
	ExcludeInboundPorts             string                      `json:"excludeInboundPorts"`
	ExcludeOutboundPorts            string                      `json:"excludeOutboundPorts"`
	// The readiness probe where the pod's annotations do not set it; seconds
	// and a count, zero is the default of each.
	ReadinessInitialDelaySeconds int32 `json:"readinessInitialDelaySeconds"`
	ReadinessPeriodSeconds       int32 `json:"readinessPeriodSeconds"`
	ReadinessFailureThreshold    int32 `json:"readinessFailureThreshold"`
}

// ProxyInit is values.global.proxy_init.
type ProxyInit struct {
	Image     string                      `json:"image"`
	Resources corev1.ResourceRequirements `json:"resources"`
}

// WebhookValues is values.sidecarInjectorWebhook.
type WebhookValues struct {
	EnableNamespacesByDefault bool                   `json:"enableNamespacesByDefault"`
	RewriteAppHTTPProbe       *bool                  `json:"rewriteAppHTTPProbe"`
	NeverInjectSelector       []metav1.LabelSelector `json:"neverInjectSelector"`
	AlwaysInjectSelector      []metav1.LabelSelector `json:"alwaysInjectSelector"`
	InjectedAnnotations       map[string]string      `json:"injectedAnnotations"`
}

// imageTag is a tag that may be written without quotes, as in tag: 1.6.
type imageTag string

// UnmarshalJSON accepts a string or a number.
func (t *imageTag) UnmarshalJSON(b []byte) error {
	s := strings.Trim(string(b), `"`)
	if s == "null" {
		s = ""
	}
	if strings.ContainsAny(s, "{}[], \\") {
		return fmt.Errorf("an image tag is a string, not %s", b)
	}
	*t = imageTag(s)
	return nil
}

// ParseValues reads the YAML or JSON of the values and fills in defaults. A
// value of the wrong type is an error that names it.
func ParseValues(text []byte) (*Values, error) {
	v := &Values{}
	if err := yaml.Unmarshal(text, v); err != nil {
		return nil, fmt.Errorf("injection values: %w", err)
	}

	g := &v.Global
	setDefault(&g.IstioNamespace, api.DefaultNamespace)
	setDefault(&g.JWTPolicy, identity.JWTThirdParty)
	setDefault(&g.ImagePullPolicy, string(corev1.PullIfNotPresent))
	setDefault(&g.Proxy.Image, "proxyv2")
	setDefault(&g.MultiCluster.ClusterName, "Kubernetes")
	setDefault(&g.MultiCluster.GlobalDomainSuffix, api.DefaultGlobalDomain)
	setDefault(&g.Proxy.ClusterDomain, api.DefaultClusterDomain)
	if g.Hub == "" || g.Tag == "" {
		return nil, errors.New("injection values: global.hub and global.tag are needed to name the proxy's image; set both in the ConfigMap istio-sidecar-injector, key values")
	}

	if err := identity.CheckJWTPolicy(g.JWTPolicy); err != nil {
		return nil, fmt.Errorf("injection values: global.jwtPolicy: %w", err)
	}

	switch corev1.PullPolicy(g.ImagePullPolicy) {
	case corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever:
	default:
		return nil, fmt.Errorf("injection values: global.imagePullPolicy: %q is none of Always, IfNotPresent, Never", g.ImagePullPolicy)
	}
	if err := v.checkRanges(); err != nil {
		return nil, err
	}

	for i, d := range g.PodDNSSearchNamespaces {
		if _, err := searchDomains(d, "default", g.MultiCluster.GlobalDomainSuffix); err != nil {
			return nil, fmt.Errorf("injection values: global.podDNSSearchNamespaces[%d]: %w", i, err)
		}
	}
	return v, nil
}

// checkRanges holds the mesh's redirection lists to the rules of a pod's own.
func (v *Values) checkRanges() error {
	p := &v.Global.Proxy
	for _, r := range []struct {
		name  string
		list  *string
		all   bool
		parse func(string, bool) (string, error)
	}{
		{"includeIPRanges", &p.IncludeIPRanges, true, cidrList},
		{"excludeIPRanges", &p.ExcludeIPRanges, false, cidrList},
		{"includeInboundPorts", &p.IncludeInboundPorts, true, portList},
		{"excludeInboundPorts", &p.ExcludeInboundPorts, false, portList},
		{"excludeOutboundPorts", &p.ExcludeOutboundPorts, false, portList},
	} {
		clean, err := r.parse(strings.TrimSpace(*r.list), r.all)
		if err != nil {
			return fmt.Errorf("injection values: global.proxy.%s: %w", r.name, err)
		}
		*r.list = clean
	}

	return nil
}

func setDefault(s *string, value string) {
	if *s == "" {
		*s = value
	}
}

// Settings is all that injection depends on besides the pod. It is not
// changed after it has been handed over, so many requests share one.
type Settings struct {
	Values *Values
	// Mesh is the mesh configuration; nil stands for an empty one.
	Mesh *meshv1alpha1.MeshConfig
	// Revision is the control plane's; "" and "default" are the same.
	Revision string
	// NativeSidecar is whether the cluster restarts init containers whose
	// restartPolicy is Always: Kubernetes 1.29 and later.
	NativeSidecar bool
}

func (s *Settings) revision() string {
	if s.Revision == "" {
		return api.DefaultRevision
	}
	return s.Revision
}

func (s *Settings) proxyConfig() *meshv1alpha1.ProxyConfig {
	if s.Mesh == nil || s.Mesh.DefaultConfig == nil {
		return &meshv1alpha1.ProxyConfig{}
	}
	return s.Mesh.DefaultConfig
}

func (s *Settings) trustDomain() string {
	switch {
	case s.Mesh != nil && s.Mesh.TrustDomain != "":
		return s.Mesh.TrustDomain
	case s.Values.Global.TrustDomain != "":
		return s.Values.Global.TrustDomain
	}
	return identity.DefaultTrustDomain
}

// Source gives the settings that hold now.
type Source interface {
	// Settings is called once per request. An error refuses the pod.
	Settings() (*Settings, error)
}

// Live is a Source whose settings are replaced while it is in use. Its zero
// value refuses pods until the first Set. It is safe for concurrent use.
type Live struct {
	current atomic.Pointer[Settings]
}

// Set replaces the settings. Callers that cannot build new ones (an edit that
// does not parse) leave the last good ones in place and report the error.
func (l *Live) Set(s *Settings) { l.current.Store(s) }

// Settings implements Source.
func (l *Live) Settings() (*Settings, error) {
	s := l.current.Load()
	if s == nil {
		return nil, errors.New("the injection settings are not loaded: the ConfigMap istio-sidecar-injector is missing or was never valid; see the log of istiod")
	}
	return s, nil
}
