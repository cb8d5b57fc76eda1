package inject

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
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
	captureDNS  bool // the pod's DNS queries are led to the proxy
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

// prepare resolves the pod's options against the mesh's. Each step may use what
// the ones before it have filled in.
func (b *builder) prepare() error {
	for _, step := range []func() error{
		b.prepareNative, b.prepareProxyConfig, b.prepareDNS, b.prepareResources,
		b.prepareLogLevel, b.prepareApplication,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) prepareNative() error {
	b.native = b.settings.NativeSidecar
	if n := b.options.nativeSidecar; n != nil {
		if *n && !b.settings.NativeSidecar {
			return fmt.Errorf("annotation sidecar.istio.io/nativeSidecar: this cluster does not know restartable init containers; it takes Kubernetes 1.29 or later")
		}
		b.native = *n
	}
	return nil
}

func (b *builder) prepareProxyConfig() error {
	pc, warnings, err := podProxyConfig(b.settings, b.options)
	if err != nil {
		return err
	}
	b.proxyConfig = pc
	b.warnings = append(b.options.warnings, warnings...)
	if b.configJSON, err = proxyConfigJSON(pc); err != nil {
		return fmt.Errorf("proxy configuration: %w", err)
	}

	// The API server would refuse the pod, and say nothing of where the name
	// comes from.
	for _, key := range slices.Sorted(maps.Keys(pc.ProxyMetadata)) {
		if errs := validation.IsEnvVarName(key); len(errs) > 0 {
			return fmt.Errorf("proxy configuration: proxyMetadata: %q is not the name of an environment variable", key)
		}
	}

	b.hold = b.settings.Values.Global.Proxy.HoldApplicationUntilProxyStarts
	if h := pc.HoldApplicationUntilProxyStarts; h != nil {
		b.hold = h.Value
	}
	return nil
}

// prepareResources takes the pod's annotations instead of the mesh's values, and
// what the pod's own container says on top of either.
func (b *builder) prepareResources() error {
	b.resources = b.settings.Values.Global.Proxy.Resources
	if b.options.hasResources {
		b.resources = b.options.resources
	}
	if b.own == nil {
		return nil
	}

	var err error
	b.resources, err = mergeOver(b.resources, b.own.Resources)
	return err
}

func (b *builder) prepareLogLevel() error {
	b.logLevel = b.options.logLevel
	if b.logLevel != "" {
		return nil
	}

	var err error
	if b.logLevel, err = logLevel(b.settings.Values.Global.Proxy.LogLevel); err != nil {
		return fmt.Errorf("global.proxy.logLevel: %w", err)
	}
	return nil
}

// prepareApplication reads what the proxy does on behalf of the application: its
// probes, which the kubelet could not ask for through strict mutual TLS, its
// metrics, and the time between the end of its pod and its own. A gateway has none.
func (b *builder) prepareApplication() (err error) {
	if b.podPorts, err = podPorts(b.pod); err != nil {
		return err
	}

	rewrite := b.options.rewriteProbes
	if rewrite == nil {
		rewrite = b.settings.Values.SidecarInjectorWebhook.RewriteAppHTTPProbe
	}
	if (rewrite == nil || *rewrite) && !b.gateway() {
		var warnings []string
		b.probers, b.probeOps, warnings, err = rewriteProbes(b.pod, b.native, b.hold)
		if err != nil {
			return err
		}
		b.warnings = append(b.warnings, warnings...)
	}

	if b.scrape, err = appScrape(b.pod, b.settings, b.options); err != nil {
		return err
	}
	if b.gateway() {
		b.scrape.app = ""
		return nil
	}

	delay, err := b.stopDelayOps()
	b.probeOps = append(b.probeOps, delay...)
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

// env is the proxy's environment: who it is, and where discovery is. What
// proxyMetadata sets comes last and wins.
func (b *builder) env() []corev1.EnvVar {
	g := &b.settings.Values.Global
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
		{Name: "CA_ADDR", Value: cmp.Or(g.CAAddress, b.proxyConfig.DiscoveryAddress)},
		{Name: "PILOT_CERT_PROVIDER", Value: "istiod"},
		{Name: "JWT_POLICY", Value: g.JWTPolicy},

		// These become the metadata of the proxy's node.
		{Name: "ISTIO_META_CLUSTER_ID", Value: g.MultiCluster.ClusterName},
		{Name: "ISTIO_META_NETWORK", Value: cmp.Or(b.pod.Labels[labelNetwork], g.Network)},
		{Name: "ISTIO_META_MESH_ID", Value: cmp.Or(g.MeshID, b.settings.trustDomain())},
		{Name: "ISTIO_META_WORKLOAD_NAME", Value: b.workload.name},
		{Name: "ISTIO_META_OWNER", Value: b.workload.owner},
		{Name: "ISTIO_META_APP_CONTAINERS", Value: strings.Join(apps, ",")},
		{Name: "ISTIO_META_POD_PORTS", Value: b.podPorts},
	}
	return overlayEnv(append(env, b.optionalEnv()...), b.proxyConfig.ProxyMetadata)
}

// optionalEnv are the variables that only some pods have.
func (b *builder) optionalEnv() []corev1.EnvVar {
	var env []corev1.EnvVar
	set := func(when bool, name, value string) {
		if when {
			env = append(env, corev1.EnvVar{Name: name, Value: value})
		}
	}
	set(!b.gateway(), "ISTIO_META_INTERCEPTION_MODE", "REDIRECT")
	set(b.captureDNS, captureDNSEnv, "true")
	set(b.native && !b.gateway(), "NATIVE_SIDECAR", "true")
	set(b.probers != "", "ISTIO_KUBE_APP_PROBERS", b.probers)
	set(b.scrape.app != "", "ISTIO_PROMETHEUS_ANNOTATIONS", b.scrape.app)
	set(b.logLevel != "", "LOG_LEVEL", b.logLevel)
	set(b.settings.Values.Global.LogAsJSON, "LOG_FORMAT", "json")

	// The Go runtime collects before the kernel kills: nine tenths of the limit
	// are the heap's, the rest is for what it does not count.
	if limit, ok := b.resources.Limits[corev1.ResourceMemory]; ok && !limit.IsZero() {
		set(true, "GOMEMLIMIT", fmt.Sprint(limit.Value()/10*9))
	}
	return env
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

	if b.captureDNS {
		args = append(args, "--dns")
	}
	return args
}
