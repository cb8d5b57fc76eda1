package inject

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"

	meshv1alpha1 "istio.io/api/mesh/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// builder holds what the parts of one patch have in common.
type builder struct {
	// pod is without the container that is laid over the proxy's.
	pod       *corev1.Pod
	own       *ownContainer // nil: the pod brings none
	namespace string
	settings  *Settings
	options   *options
	workload  workload

	// Filled by prepare.
	native      bool
	hold        bool // the application waits until the proxy is ready
	proxyConfig *meshv1alpha1.ProxyConfig
	configJSON  string
	podPorts    string
	probers     string
	probeOps    []operation
	logLevel    string
	resources   corev1.ResourceRequirements
	scrape      scrape
	warnings    []string
}

// gateway tells that the pod is to be a gateway, and not to have a sidecar.
func (b *builder) gateway() bool { return b.options.template == gatewayTemplate }

// ownResources tells whether the pod says what its proxy may take of the node.
func (b *builder) ownResources() bool {
	return b.options.hasResources || b.own != nil && (len(b.own.Resources.Requests) > 0 || len(b.own.Resources.Limits) > 0)
}

// prepare resolves the pod's options against the mesh's.
func (b *builder) prepare() error {
	b.native = b.settings.NativeSidecar
	if n := b.options.nativeSidecar; n != nil {
		if *n && !b.settings.NativeSidecar {
			return fmt.Errorf("annotation sidecar.istio.io/nativeSidecar: this cluster does not know restartable init containers; it takes Kubernetes 1.29 or later")
		}
		b.native = *n
	}

	pc, warnings, err := podProxyConfig(b.settings, b.options)
	if err != nil {
		return err
	}

	b.proxyConfig = pc
	b.warnings = append(b.options.warnings, warnings...)
	if b.configJSON, err = proxyConfigJSON(pc); err != nil {
		return fmt.Errorf("proxy configuration: %w", err)
	}

	for key := range pc.ProxyMetadata {
		if errs := validation.IsEnvVarName(key); len(errs) > 0 {
			return fmt.Errorf("proxy configuration: proxyMetadata: %q is not the name of an environment variable", key)
		}
	}

	b.resources = b.settings.Values.Global.Proxy.Resources
	if b.options.hasResources {
		b.resources = b.options.resources
	}
	if b.own != nil {
		if b.resources, err = mergeOver(b.resources, b.own.Resources); err != nil {
			return err
		}
	}

	b.hold = b.settings.Values.Global.Proxy.HoldApplicationUntilProxyStarts
	if h := pc.HoldApplicationUntilProxyStarts; h != nil {
		b.hold = h.Value
	}
	if b.podPorts, err = podPorts(b.pod); err != nil {
		return err
	}

	b.logLevel = b.options.logLevel
	if b.logLevel == "" {
		if b.logLevel, err = logLevel(b.settings.Values.Global.Proxy.LogLevel); err != nil {
			return fmt.Errorf("global.proxy.logLevel: %w", err)
		}
	}

	rewrite := b.options.rewriteProbes
	if rewrite == nil {
		rewrite = b.settings.Values.SidecarInjectorWebhook.RewriteAppHTTPProbe
	}

	if (rewrite == nil || *rewrite) && !b.gateway() {
		b.probers, b.probeOps, warnings, err = rewriteProbes(b.pod, b.native, b.hold)
		if err != nil {
			return err
		}
		b.warnings = append(b.warnings, warnings...)
	}

	b.scrape, err = appScrape(b.pod, b.settings, b.options)
	if b.gateway() {
		b.scrape.app = "" // there is no application
	}
	return err
}

// podPorts lists the ports that the application declares, as JSON.
func podPorts(pod *corev1.Pod) (string, error) {
	ports := []corev1.ContainerPort{}
	for i := range pod.Spec.Containers {
		for _, p := range pod.Spec.Containers[i].Ports {
			ports = append(ports, corev1.ContainerPort{Name: p.Name, ContainerPort: p.ContainerPort, Protocol: p.Protocol})
		}
	}
	js, err := json.Marshal(ports)
	if err != nil {
		return "", fmt.Errorf("encode the pod's ports: %w", err)
	}
	return string(js), nil
}

// env is the proxy's environment: who it is, and where discovery is.
func (b *builder) env() []corev1.EnvVar {
	g := &b.settings.Values.Global
	caAddr := g.CAAddress
	if caAddr == "" {
		caAddr = b.proxyConfig.DiscoveryAddress
	}

	meshID := g.MeshID
	if meshID == "" {
		meshID = b.settings.trustDomain()
	}

	var apps []string
	for i := range b.pod.Spec.Containers {
		apps = append(apps, b.pod.Spec.Containers[i].Name)
	}

	env := []corev1.EnvVar{
		field("POD_NAME", "metadata.name"),
		field("POD_NAMESPACE", "metadata.namespace"),
		field("INSTANCE_IP", "status.podIP"),
		field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
		field("HOST_IP", "status.hostIP"),
		field("NODE_NAME", "spec.nodeName"),
		{Name: "TRUST_DOMAIN", Value: b.settings.trustDomain()},
		{Name: "DNS_DOMAIN", Value: g.Proxy.ClusterDomain},
		{Name: "PROXY_CONFIG", Value: b.configJSON},
		{Name: "CA_ADDR", Value: caAddr},
		{Name: "PILOT_CERT_PROVIDER", Value: "istiod"},
		{Name: "JWT_POLICY", Value: g.JWTPolicy},
		{Name: "ISTIO_META_CLUSTER_ID", Value: g.MultiCluster.ClusterName},
		{Name: "ISTIO_META_NETWORK", Value: g.Network},
		{Name: "ISTIO_META_MESH_ID", Value: meshID},
		{Name: "ISTIO_META_WORKLOAD_NAME", Value: b.workload.name},
		{Name: "ISTIO_META_OWNER", Value: b.workload.owner},
		{Name: "ISTIO_META_APP_CONTAINERS", Value: strings.Join(apps, ",")},
		{Name: "ISTIO_META_POD_PORTS", Value: b.podPorts},
	}

	if !b.gateway() {
		env = append(env, corev1.EnvVar{Name: "ISTIO_META_INTERCEPTION_MODE", Value: "REDIRECT"})
	}
	if b.native && !b.gateway() {
		env = append(env, corev1.EnvVar{Name: "NATIVE_SIDECAR", Value: "true"})
	}
	if b.probers != "" {
		env = append(env, corev1.EnvVar{Name: "ISTIO_KUBE_APP_PROBERS", Value: b.probers})
	}
	if b.scrape.app != "" {
		env = append(env, corev1.EnvVar{Name: "ISTIO_PROMETHEUS_ANNOTATIONS", Value: b.scrape.app})
	}
	if b.logLevel != "" {
		env = append(env, corev1.EnvVar{Name: "LOG_LEVEL", Value: b.logLevel})
	}
	if g.LogAsJSON {
		env = append(env, corev1.EnvVar{Name: "LOG_FORMAT", Value: "json"})
	}

	if limit, ok := b.resources.Limits[corev1.ResourceMemory]; ok && !limit.IsZero() {
		// The Go runtime collects before the kernel kills: nine tenths of
		// the limit are the heap's, the rest is for what it does not count.
		env = append(env, corev1.EnvVar{Name: "GOMEMLIMIT", Value: fmt.Sprint(limit.Value() / 10 * 9)})
	}
	return overlayEnv(env, b.proxyConfig.ProxyMetadata)
}

func field(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
}

// overlayEnv sets proxyMetadata's variables, in order of name, over env.
func overlayEnv(env []corev1.EnvVar, metadata map[string]string) []corev1.EnvVar {
	index := map[string]int{}
	for i := range env {
		index[env[i].Name] = i
	}

	names := make([]string, 0, len(metadata))
	for n := range metadata {
		names = append(names, n)
	}

	sort.Strings(names)
	for _, n := range names {
		v := corev1.EnvVar{Name: n, Value: metadata[n]}
		if i, ok := index[n]; ok {
			env[i] = v
		} else {
			env = append(env, v)
		}
	}
	return env
}

// redirectArgs are the arguments of the init container: the pod's annotations
// where it has any, the mesh's values otherwise.
func (b *builder) redirectArgs() []string {
	p := &b.settings.Values.Global.Proxy
	args := []string{"redirect", "--proxy-port", "15001", "--inbound-port", "15006", "--proxy-uid", fmt.Sprint(proxyUID)}
	for _, f := range []struct {
		flag  string
		own   *string
		value string
	}{
		{"--include-outbound-cidrs", b.options.includeOutboundCIDRs, p.IncludeIPRanges},
		{"--exclude-outbound-cidrs", b.options.excludeOutboundCIDRs, p.ExcludeIPRanges},
		{"--include-inbound-ports", b.options.includeInboundPorts, p.IncludeInboundPorts},
		{"--exclude-inbound-ports", b.options.excludeInboundPorts, p.ExcludeInboundPorts},
		{"--exclude-outbound-ports", b.options.excludeOutboundPorts, p.ExcludeOutboundPorts},
	} {
		switch {
		case f.own != nil:
			args = append(args, f.flag, *f.own)
		case f.value != "":
			args = append(args, f.flag, f.value)
		}
	}

	return args
}
