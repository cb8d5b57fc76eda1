package operator

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Values are the chart values that may be set under spec.values. A key is here
// when it changes something; keys of Istio's charts that would change nothing
// are absent or refused.
type Values struct {
	Global                 GlobalValues             `json:"global,omitempty"`
	Pilot                  PilotValues              `json:"pilot,omitempty"`
	Gateways               map[string]GatewayValues `json:"gateways,omitempty"`
	IstioCoreDNS           CoreDNSValues            `json:"istiocoredns,omitempty"`
	SidecarInjectorWebhook InjectorValues           `json:"sidecarInjectorWebhook,omitempty"`
	// MeshConfig is an older place for spec.meshConfig.
	MeshConfig meshConfig `json:"meshConfig,omitempty"`
	// Revision is an older place for spec.revision.
	Revision string `json:"revision,omitempty"`

	Mixer      any `json:"mixer,omitempty" refuse:"Mixer does not exist here: policies are enforced and metrics are kept in the proxies"`
	Policy     any `json:"policy,omitempty" refuse:"Mixer's policy service does not exist here: policies are enforced in the proxies"`
	Telemetry  any `json:"telemetry,omitempty" refuse:"telemetry is built into every proxy and cannot be taken out"`
	Galley     any `json:"galley,omitempty" refuse:"configuration is validated by istiod"`
	Security   any `json:"security,omitempty" refuse:"certificates are signed by istiod"`
	NodeAgent  any `json:"nodeagent,omitempty" refuse:"proxies fetch their certificates themselves"`
	Prometheus any `json:"prometheus,omitempty" refuse:"observability tools are not bundled; install their own charts"`
	Grafana    any `json:"grafana,omitempty" refuse:"observability tools are not bundled; install their own charts"`
	Kiali      any `json:"kiali,omitempty" refuse:"observability tools are not bundled; install their own charts"`
	Tracing    any `json:"tracing,omitempty" refuse:"observability tools are not bundled; install their own charts"`
	CNI        any `json:"cni,omitempty" refuse:"pods are redirected by their own init container; there is no node agent to configure"`
}

// GlobalValues are shared by all charts.
type GlobalValues struct {
	Hub              string   `json:"hub,omitempty"`
	Tag              string   `json:"tag,omitempty"`
	ImagePullPolicy  string   `json:"imagePullPolicy,omitempty" oneof:"Always|IfNotPresent|Never"`
	ImagePullSecrets []string `json:"imagePullSecrets,omitempty"`
	IstioNamespace   string   `json:"istioNamespace,omitempty"`

	MultiCluster       MultiClusterValues `json:"multiCluster,omitempty"`
	Network            string             `json:"network,omitempty"`
	MeshNetworks       meshNetworks       `json:"meshNetworks,omitempty"`
	MeshID             string             `json:"meshID,omitempty"`
	TrustDomain        string             `json:"trustDomain,omitempty"`
	RemotePilotAddress string             `json:"remotePilotAddress,omitempty"`

	PodDNSSearchNamespaces      []string `json:"podDNSSearchNamespaces,omitempty"`
	JWTPolicy                   string   `json:"jwtPolicy,omitempty" oneof:"third-party-jwt|first-party-jwt"`
	ControlPlaneSecurityEnabled *bool    `json:"controlPlaneSecurityEnabled,omitempty" only:"true" because:"the control plane is always reached over mutual TLS"`
	// CAAddress is where proxies get their certificates, host:port; istiod by
	// default.
	CAAddress         string `json:"caAddress,omitempty"`
	PilotCertProvider string `json:"pilotCertProvider,omitempty" oneof:"istiod"`

	Logging           LoggingValues `json:"logging,omitempty"`
	Proxy             ProxyValues   `json:"proxy,omitempty"`
	ProxyInit         InitValues    `json:"proxy_init,omitempty"`
	PriorityClassName string        `json:"priorityClassName,omitempty"`

	DefaultPodDisruptionBudget EnabledValue                `json:"defaultPodDisruptionBudget,omitempty"`
	DefaultNodeSelector        map[string]string           `json:"defaultNodeSelector,omitempty"`
	DefaultTolerations         []corev1.Toleration         `json:"defaultTolerations,omitempty"`
	DefaultResources           corev1.ResourceRequirements `json:"defaultResources,omitempty"`

	MeshExpansion any `json:"meshExpansion,omitempty" refuse:"workloads outside Kubernetes cannot join this mesh"`
	MTLS          any `json:"mtls,omitempty" refuse:"mutual TLS between injected pods is automatic; make it strict with a PeerAuthentication in istio-system"`
	SDS           any `json:"sds,omitempty" refuse:"certificates are always delivered in memory"`
	Tracer        any `json:"tracer,omitempty" refuse:"trace exporters are set under meshConfig.extensionProviders"`
}

// MultiClusterValues name this cluster among its peers.
type MultiClusterValues struct {
	// Enabled adds the gateway configuration of replicated control planes:
	// port 15443 passes connections for *.global on by their server name.
	Enabled     *bool  `json:"enabled,omitempty"`
	ClusterName string `json:"clusterName,omitempty"`
	// GlobalDomainSuffix is the domain of services in other clusters.
	GlobalDomainSuffix string `json:"globalDomainSuffix,omitempty"`
}

// EnabledValue is a switch.
type EnabledValue struct {
	Enabled *bool `json:"enabled,omitempty"`
}

// LoggingValues set what istiod logs.
type LoggingValues struct {
	// Level is one of debug, info, warn, error; Istio's scope:level form is
	// accepted for the scope "default".
	Level string `json:"level,omitempty"`
}

// ProxyValues are the injected sidecar's settings.
type ProxyValues struct {
	Image                           string                      `json:"image,omitempty"`
	LogLevel                        string                      `json:"logLevel,omitempty"`
	ClusterDomain                   string                      `json:"clusterDomain,omitempty"`
	Resources                       corev1.ResourceRequirements `json:"resources,omitempty"`
	HoldApplicationUntilProxyStarts *bool                       `json:"holdApplicationUntilProxyStarts,omitempty"`
	// AccessLogFile, AccessLogFormat and AccessLogEncoding are older places
	// for the meshConfig fields of the same names.
	AccessLogFile     string `json:"accessLogFile,omitempty"`
	AccessLogFormat   string `json:"accessLogFormat,omitempty"`
	AccessLogEncoding string `json:"accessLogEncoding,omitempty" oneof:"TEXT|JSON"`
	// Concurrency is an older place for meshConfig.defaultConfig.concurrency.
	Concurrency *int32 `json:"concurrency,omitempty"`

	IncludeIPRanges      string `json:"includeIPRanges,omitempty"`
	ExcludeIPRanges      string `json:"excludeIPRanges,omitempty"`
	IncludeInboundPorts  string `json:"includeInboundPorts,omitempty"`
	ExcludeInboundPorts  string `json:"excludeInboundPorts,omitempty"`
	ExcludeOutboundPorts string `json:"excludeOutboundPorts,omitempty"`
}

// InitValues are the settings of the init container that redirects traffic.
type InitValues struct {
	Image     string                      `json:"image,omitempty"`
	Resources corev1.ResourceRequirements `json:"resources,omitempty"`
}

// ScalingValues say how many pods a Deployment has, and what they may use.
type ScalingValues struct {
	AutoscaleEnabled *bool                       `json:"autoscaleEnabled,omitempty"`
	AutoscaleMin     *int32                      `json:"autoscaleMin,omitempty"`
	AutoscaleMax     *int32                      `json:"autoscaleMax,omitempty"`
	CPU              CPUTarget                   `json:"cpu,omitempty"`
	ReplicaCount     *int32                      `json:"replicaCount,omitempty"`
	Resources        corev1.ResourceRequirements `json:"resources,omitempty"`
	NodeSelector     map[string]string           `json:"nodeSelector,omitempty"`
	Tolerations      []corev1.Toleration         `json:"tolerations,omitempty"`
	PodAnnotations   map[string]string           `json:"podAnnotations,omitempty"`
}

// CPUTarget is what the autoscaler aims at.
type CPUTarget struct {
	// TargetAverageUtilization is a percentage of the CPU request.
	TargetAverageUtilization *int32 `json:"targetAverageUtilization,omitempty"`
}

// PilotValues are istiod's settings.
type PilotValues struct {
	Enabled       *bool  `json:"enabled,omitempty"`
	Image         string `json:"image,omitempty"`
	ScalingValues `json:",inline"`
	Env           map[string]string `json:"env,omitempty"`
	// ServiceAnnotations go to the Service istiod.
	ServiceAnnotations map[string]string `json:"serviceAnnotations,omitempty"`
	// KeepaliveMaxServerConnectionAge is about how long a proxy's connection
	// lasts; at least one minute.
	KeepaliveMaxServerConnectionAge *metav1.Duration `json:"keepaliveMaxServerConnectionAge,omitempty"`
	// PlaintextXDS opens port 15010, which serves xDS to anybody.
	PlaintextXDS *bool `json:"plaintextXDS,omitempty"`
}

// GatewayValues are the settings of the gateway that the map's key names.
type GatewayValues struct {
	Enabled                  *bool `json:"enabled,omitempty"`
	ScalingValues            `json:",inline"`
	Labels                   map[string]string    `json:"labels,omitempty"`
	Env                      map[string]string    `json:"env,omitempty"`
	Type                     string               `json:"type,omitempty" oneof:"LoadBalancer|ClusterIP|NodePort"`
	LoadBalancerIP           string               `json:"loadBalancerIP,omitempty"`
	LoadBalancerSourceRanges []string             `json:"loadBalancerSourceRanges,omitempty"`
	ExternalTrafficPolicy    string               `json:"externalTrafficPolicy,omitempty" oneof:"Cluster|Local"`
	ServiceAnnotations       map[string]string    `json:"serviceAnnotations,omitempty"`
	Ports                    []corev1.ServicePort `json:"ports,omitempty"`
}

// CoreDNSValues are the settings of istiocoredns.
type CoreDNSValues struct {
	Enabled      *bool                       `json:"enabled,omitempty"`
	ReplicaCount *int32                      `json:"replicaCount,omitempty"`
	Resources    corev1.ResourceRequirements `json:"resources,omitempty"`
	CoreDNSImage any                         `json:"coreDNSImage,omitempty" refuse:"the DNS server is part of the image pilot"`
	PluginImage  any                         `json:"coreDNSPluginImage,omitempty" refuse:"the DNS server is part of the image pilot"`
}

// InjectorValues say which pods get a sidecar.
type InjectorValues struct {
	EnableNamespacesByDefault *bool `json:"enableNamespacesByDefault,omitempty"`
	// RewriteAppHTTPProbe sends a pod's probes through its proxy; true by
	// default.
	RewriteAppHTTPProbe  *bool                  `json:"rewriteAppHTTPProbe,omitempty"`
	InjectedAnnotations  map[string]string      `json:"injectedAnnotations,omitempty"`
	NeverInjectSelector  []metav1.LabelSelector `json:"neverInjectSelector,omitempty"`
	AlwaysInjectSelector []metav1.LabelSelector `json:"alwaysInjectSelector,omitempty"`
}

// meshNetworks is istio.mesh.v1alpha1.MeshNetworks' map in JSON form.
type meshNetworks map[string]any
