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

	// Base says how the CRDs come into the cluster: the component base brings
	// them either way.
	Base      BaseValues      `json:"base,omitempty"`
	Telemetry TelemetryValues `json:"telemetry,omitempty"`
	// IstiodRemote is about a control plane outside of the cluster.
	IstiodRemote IstiodRemoteValues `json:"istiodRemote,omitempty"`
	// OldVersion and ClusterResources are of Istio 1.6's profiles.
	OldVersion       string `json:"version,omitempty" only:"" because:"the version is that of this binary"`
	ClusterResources *bool  `json:"clusterResources,omitempty" only:"true" because:"the mesh's CRDs and webhooks belong to the cluster"`
	DefaultRevision  string `json:"defaultRevision,omitempty" only:"|default" because:"the default revision is the one that is installed without a name"`
	HelmProfile      any    `json:"profile,omitempty" refuse:"the profile is named by spec.profile; isthmus profile list shows which there are"`
	Ztunnel          any    `json:"ztunnel,omitempty" moot:"there is no ambient mode: every pod of the mesh has its sidecar"`

	Mixer      any `json:"mixer,omitempty" refuse:"Mixer does not exist here: policies are enforced and metrics are kept in the proxies"`
	Policy     any `json:"policy,omitempty" refuse:"Mixer's policy service does not exist here: policies are enforced in the proxies"`
	Galley     any `json:"galley,omitempty" refuse:"configuration is validated by istiod"`
	Security   any `json:"security,omitempty" refuse:"certificates are signed by istiod"`
	NodeAgent  any `json:"nodeagent,omitempty" refuse:"proxies fetch their certificates themselves"`
	Prometheus any `json:"prometheus,omitempty" refuse:"observability tools are not bundled; install their own charts"`
	Grafana    any `json:"grafana,omitempty" refuse:"observability tools are not bundled; install their own charts"`
	Kiali      any `json:"kiali,omitempty" refuse:"observability tools are not bundled; install their own charts"`
	Tracing    any `json:"tracing,omitempty" refuse:"observability tools are not bundled; install their own charts"`
	CNI        any `json:"cni,omitempty" moot:"pods are redirected by their own init container; there is no node agent to configure"`
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

	// LogAsJSON makes istiod and the proxies write their logs as JSON.
	LogAsJSON *bool `json:"logAsJson,omitempty"`

	MeshExpansion MeshExpansionValues `json:"meshExpansion,omitempty"`
	Istiod        IstiodValues        `json:"istiod,omitempty"`
	STS           STSValues           `json:"sts,omitempty"`
	NetworkPolicy NetworkPolicyValues `json:"networkPolicy,omitempty"`

	OperatorManageWebhooks       *bool `json:"operatorManageWebhooks,omitempty" only:"false" because:"whoever installs the mesh installs its webhooks"`
	OneNamespace                 *bool `json:"oneNamespace,omitempty" only:"false" because:"discovery reads the whole cluster; what a namespace shows to others is said by exportTo"`
	ConfigValidation             *bool `json:"configValidation,omitempty" only:"true" because:"configuration that is not honoured must not get in unnoticed"`
	OmitSidecarInjectorConfigMap *bool `json:"omitSidecarInjectorConfigMap,omitempty" only:"false" because:"istiod reads the values of injection from it"`
	UseMCP                       *bool `json:"useMCP,omitempty" only:"false" because:"configuration is read from Kubernetes"`
	EnableHelmTest               *bool `json:"enableHelmTest,omitempty" only:"false" because:"isthmus verify-install tells whether an installation works"`
	MountMTLSCerts               *bool `json:"mountMtlsCerts,omitempty" only:"false" because:"proxies fetch their certificates and keep them in memory"`
	// ExternalIstiod lets istiod serve other clusters. It always does: those
	// that there is a remote secret of.
	ExternalIstiod *bool  `json:"externalIstiod,omitempty"`
	CAName         string `json:"caName,omitempty" only:"" because:"certificates are signed by istiod"`
	ConfigCluster  *bool  `json:"configCluster,omitempty" only:"false" because:"each control plane reads the configuration of its own cluster"`
	Platform       string `json:"platform,omitempty" only:"" because:"an installation is the same on every platform"`
	Variant        string `json:"variant,omitempty" only:"" because:"there is one image, on an empty root file system"`

	Arch   any       `json:"arch,omitempty" refuse:"the nodes to run on are chosen by components.NAME.k8s.affinity"`
	MTLS   any       `json:"mtls,omitempty" refuse:"mutual TLS between injected pods is automatic; make it strict with a PeerAuthentication in istio-system"`
	SDS    SDSValues `json:"sds,omitempty"`
	Tracer any       `json:"tracer,omitempty" refuse:"trace exporters are set under meshConfig.extensionProviders"`
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
	Image    string `json:"image,omitempty"`
	LogLevel string `json:"logLevel,omitempty"`
	// ClusterDomain is the cluster's DNS domain; cluster.local by default.
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

	// The readiness probe of a sidecar: seconds and a count.
	ReadinessInitialDelaySeconds *int32 `json:"readinessInitialDelaySeconds,omitempty"`
	ReadinessPeriodSeconds       *int32 `json:"readinessPeriodSeconds,omitempty"`
	ReadinessFailureThreshold    *int32 `json:"readinessFailureThreshold,omitempty"`

	AutoInject         string             `json:"autoInject,omitempty" only:"enabled" because:"which pods get a sidecar is said by labels: istio-injection on a namespace, sidecar.istio.io/inject on a pod"`
	ComponentLogLevel  string             `json:"componentLogLevel,omitempty" only:"|misc:error" because:"the proxy has one log level, values.global.proxy.logLevel"`
	EnableCoreDump     *bool              `json:"enableCoreDump,omitempty" only:"false" because:"the proxy's root file system is read-only; a crash is in its log"`
	Privileged         *bool              `json:"privileged,omitempty" only:"false" because:"the proxy needs no privileges"`
	StatusPort         *int32             `json:"statusPort,omitempty" only:"15020" because:"the port of the status server is fixed"`
	Tracer             string             `json:"tracer,omitempty" only:"|none|zipkin" because:"proxies send no spans, to whichever tracer"`
	EnvoyStatsd        EnvoyStatsdValues  `json:"envoyStatsd,omitempty"`
	StartupProbe       StartupProbeValues `json:"startupProbe,omitempty"`
	KubevirtInterfaces string             `json:"kubevirtInterfaces,omitempty" only:"" because:"only traffic of the pod's own processes is redirected"`
}

// StartupProbeValues is the startup probe of a sidecar.
type StartupProbeValues struct {
	Enabled          *bool  `json:"enabled,omitempty" only:"true" because:"a pod is ready when its proxy is, however long that takes"`
	FailureThreshold *int32 `json:"failureThreshold,omitempty" only:"600" because:"a proxy has ten minutes to start"`
}

// EnvoyStatsdValues are about metrics that the proxy would push.
type EnvoyStatsdValues struct {
	Enabled *bool `json:"enabled,omitempty" only:"false" because:"metrics are scraped, at port 15020 of every pod; a statsd exporter can scrape them"`
	Host    any   `json:"host,omitempty" refuse:"metrics are scraped, at port 15020 of every pod"`
	Port    any   `json:"port,omitempty" refuse:"metrics are scraped, at port 15020 of every pod"`
}

// BaseValues are about the CRDs.
type BaseValues struct {
	// EnableCRDTemplates chooses between two ways in which Helm may install
	// the CRDs. The component base installs them in any case.
	EnableCRDTemplates *bool `json:"enableCRDTemplates,omitempty"`
	// EnableMultiClusterServiceCRDs installs the CRDs of the Multi-Cluster
	// Services API, where nobody else has.
	EnableMultiClusterServiceCRDs *bool    `json:"enableMultiClusterServiceCRDs,omitempty"`
	EnableIstioConfig             *bool    `json:"enableIstioConfigCRDs,omitempty" only:"true" because:"discovery reads these kinds"`
	ExcludedCRDs                  []string `json:"excludedCRDs,omitempty" only:"[]" because:"a kind that is not there cannot be refused when it is written"`
	ValidationURL                 string   `json:"validationURL,omitempty" only:"" because:"configuration is validated by istiod, which the webhook calls by its Service"`
	ValidateGateway               *bool    `json:"validateGateway,omitempty" only:"false" because:"Gateways are validated like every other kind"`
	ValidationCABundle            string   `json:"validationCABundle,omitempty" only:"" because:"istiod puts its own root there"`
	EnableAnalysis                *bool    `json:"enableAnalysis,omitempty" only:"false" because:"what is wrong with an object is said when it is written, and in its status"`
}

// TelemetryValues are about Istio's metrics extensions. Here metrics are part of
// the proxy, and there is nothing to switch.
type TelemetryValues struct {
	Enabled *bool             `json:"enabled,omitempty" only:"true" because:"metrics are built into every proxy and cannot be taken out"`
	V1      MixerSwitch       `json:"v1,omitempty"`
	V2      TelemetryV2Values `json:"v2,omitempty"`
}

// MixerSwitch turns Mixer on, which does not exist here.
type MixerSwitch struct {
	Enabled *bool `json:"enabled,omitempty" only:"false" because:"Mixer does not exist here: metrics are kept in the proxies"`
}

// TelemetryV2Values are the metrics that proxies keep.
type TelemetryV2Values struct {
	Enabled          *bool             `json:"enabled,omitempty" only:"true" because:"metrics are built into every proxy and cannot be taken out"`
	MetadataExchange WasmValues        `json:"metadataExchange,omitempty"`
	Prometheus       WasmValues        `json:"prometheus,omitempty"`
	Stackdriver      StackdriverValues `json:"stackdriver,omitempty"`
	AccessLogPolicy  MixerSwitch       `json:"accessLogPolicy,omitempty"`
}

// WasmValues are of one metrics extension.
type WasmValues struct {
	Enabled        *bool          `json:"enabled,omitempty" only:"true" because:"metrics are built into every proxy and cannot be taken out"`
	WasmEnabled    *bool          `json:"wasmEnabled,omitempty" only:"false" because:"metrics are built in; proxies run no extensions"`
	ConfigOverride map[string]any `json:"configOverride,omitempty" only:"map[]" because:"which metrics there are, and their labels, is fixed"`
}

// StackdriverValues are about an exporter to a cloud.
type StackdriverValues struct {
	Enabled         *bool          `json:"enabled,omitempty" only:"false" because:"metrics are scraped; nothing is sent to Stackdriver"`
	Logging         *bool          `json:"logging,omitempty" only:"false" because:"nothing is sent to Stackdriver"`
	Monitoring      *bool          `json:"monitoring,omitempty" only:"false" because:"nothing is sent to Stackdriver"`
	Topology        *bool          `json:"topology,omitempty" only:"false" because:"nothing is sent to Stackdriver"`
	DisableOutbound *bool          `json:"disableOutbound,omitempty" only:"false" because:"nothing is sent to Stackdriver"`
	ConfigOverride  map[string]any `json:"configOverride,omitempty" only:"map[]" because:"nothing is sent to Stackdriver"`
}

// IstiodRemoteValues are about a control plane outside of the cluster.
type IstiodRemoteValues struct {
	Enabled      *bool  `json:"enabled,omitempty" only:"false" because:"a remote cluster runs the component pilot for injection and certificates; set values.global.remotePilotAddress"`
	InjectionURL string `json:"injectionURL,omitempty" only:"" because:"the webhooks call the istiod of their own cluster, by its Service"`
	// InjectionPath names the cluster and its network, as
	// /inject/cluster/NAME/net/NETWORK. The webhooks call the istiod of their own
	// cluster, which is told both.
	InjectionPath        string `json:"injectionPath,omitempty"`
	InjectionCABundle    string `json:"injectionCABundle,omitempty" only:"" because:"istiod puts its own root there"`
	EnabledLocalInjector *bool  `json:"enabledLocalInjectorIstiod,omitempty" only:"false" because:"the istiod of each cluster injects there"`
}

// MeshExpansionValues are about workloads outside Kubernetes.
type MeshExpansionValues struct {
	Enabled *bool `json:"enabled,omitempty" only:"false" because:"workloads outside Kubernetes cannot join this mesh"`
	UseILB  *bool `json:"useILB,omitempty" only:"false" because:"workloads outside Kubernetes cannot join this mesh"`
}

// IstiodValues are switches of istiod.
type IstiodValues struct {
	Enabled        *bool `json:"enabled,omitempty" only:"true" because:"istiod is the only control plane; to leave it out, set components.pilot.enabled=false"`
	EnableAnalysis *bool `json:"enableAnalysis,omitempty" only:"false" because:"what is wrong with an object is said when it is written, and in its status"`
}

// SDSValues are about the tokens that prove workloads.
type SDSValues struct {
	Enabled *bool `json:"enabled,omitempty" only:"true" because:"certificates are always delivered in memory"`
	Token   struct {
		Aud string `json:"aud,omitempty" only:"istio-ca" because:"the certificate authority takes tokens made for it alone"`
	} `json:"token,omitempty"`
}

// STSValues are about a token exchange.
type STSValues struct {
	ServicePort *int32 `json:"servicePort,omitempty" only:"0" because:"proxies exchange no tokens"`
}

// NetworkPolicyValues ask for NetworkPolicies.
type NetworkPolicyValues struct {
	Enabled *bool `json:"enabled,omitempty" only:"false" because:"no NetworkPolicies are made; write your own for the ports that docs/architecture.md lists: istiod is called at 15012, 15014 and 15017, gateways at 8080, 8443, 15021 and 15443"`
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
	CPU              UtilizationTarget           `json:"cpu,omitempty"`
	Memory           UtilizationTarget           `json:"memory,omitempty"`
	ReplicaCount     *int32                      `json:"replicaCount,omitempty"`
	Resources        corev1.ResourceRequirements `json:"resources,omitempty"`
	NodeSelector     map[string]string           `json:"nodeSelector,omitempty"`
	Tolerations      []corev1.Toleration         `json:"tolerations,omitempty"`
	PodAnnotations   map[string]string           `json:"podAnnotations,omitempty"`

	AntiAffinity     []any `json:"podAntiAffinityLabelSelector,omitempty" only:"[]" because:"where pods run is chosen by components.NAME.k8s.affinity"`
	TermAntiAffinity []any `json:"podAntiAffinityTermLabelSelector,omitempty" only:"[]" because:"where pods run is chosen by components.NAME.k8s.affinity"`
}

// Environment is a set of environment variables. Their values may be written as
// numbers and booleans.
type Environment map[string]string

// UtilizationTarget is what the autoscaler aims at.
type UtilizationTarget struct {
	// TargetAverageUtilization is a percentage of what is requested.
	TargetAverageUtilization *int32 `json:"targetAverageUtilization,omitempty"`
}

// PilotValues are istiod's settings.
type PilotValues struct {
	Enabled       *bool  `json:"enabled,omitempty"`
	Image         string `json:"image,omitempty"`
	ScalingValues `json:",inline"`
	Env           Environment `json:"env,omitempty"`
	// ServiceAnnotations go to the Service istiod.
	ServiceAnnotations map[string]string `json:"serviceAnnotations,omitempty"`
	// KeepaliveMaxServerConnectionAge is about how long a proxy's connection
	// lasts; at least one minute.
	KeepaliveMaxServerConnectionAge *metav1.Duration `json:"keepaliveMaxServerConnectionAge,omitempty"`
	// PlaintextXDS opens port 15010, which serves xDS to anybody.
	PlaintextXDS *bool `json:"plaintextXDS,omitempty"`
	// DeploymentLabels and PodLabels are added to the Deployment's labels and
	// to its pods'.
	DeploymentLabels map[string]string `json:"deploymentLabels,omitempty"`
	PodLabels        map[string]string `json:"podLabels,omitempty"`

	TraceSampling   *float64    `json:"traceSampling,omitempty" only:"1" because:"proxies send no spans"`
	ConfigNamespace any         `json:"configNamespace,omitempty" refuse:"the namespace whose configuration counts everywhere is meshConfig.rootNamespace"`
	AppNamespaces   []any       `json:"appNamespaces,omitempty" only:"[]" because:"discovery reads the whole cluster; what a namespace shows to others is said by exportTo"`
	SniffOutbound   *bool       `json:"enableProtocolSniffingForOutbound,omitempty" only:"true" because:"ports without a protocol are looked into; name a port tcp-… to have it passed on"`
	SniffInbound    *bool       `json:"enableProtocolSniffingForInbound,omitempty" only:"true" because:"ports without a protocol are looked into; name a port tcp-… to have it passed on"`
	ConfigMap       *bool       `json:"configMap,omitempty" only:"true" because:"the mesh configuration is in the ConfigMap istio"`
	Policy          MixerSwitch `json:"policy,omitempty"`
	CNI             any         `json:"cni,omitempty" moot:"pods are redirected by their own init container; there is no node agent"`
}

// GatewayValues are the settings of the gateway that the map's key names.
type GatewayValues struct {
	Enabled                  *bool `json:"enabled,omitempty"`
	ScalingValues            `json:",inline"`
	Labels                   map[string]string    `json:"labels,omitempty"`
	Env                      Environment          `json:"env,omitempty"`
	Type                     string               `json:"type,omitempty" oneof:"LoadBalancer|ClusterIP|NodePort"`
	LoadBalancerIP           string               `json:"loadBalancerIP,omitempty"`
	LoadBalancerSourceRanges []string             `json:"loadBalancerSourceRanges,omitempty"`
	ExternalTrafficPolicy    string               `json:"externalTrafficPolicy,omitempty" oneof:"Cluster|Local"`
	ServiceAnnotations       map[string]string    `json:"serviceAnnotations,omitempty"`
	Ports                    []corev1.ServicePort `json:"ports,omitempty"`
	// SecretVolumes are mounted into the gateway's pods.
	SecretVolumes []SecretVolume `json:"secretVolumes,omitempty"`

	// Name is the gateway's name once more.
	Name string `json:"name,omitempty"`
	// MeshExpansionPorts are opened where values.global.meshExpansion.enabled
	// is true, and that is refused.
	MeshExpansionPorts any    `json:"meshExpansionPorts,omitempty"`
	ApplicationPorts   string `json:"applicationPorts,omitempty" only:"" because:"a gateway opens the ports of its Gateway resources"`
	Debug              string `json:"debug,omitempty" only:"info" because:"a gateway's log level is values.global.proxy.logLevel"`
	Domain             string `json:"domain,omitempty" only:"" because:"a gateway serves the hosts of its Gateway resources"`
	ZVPN               any    `json:"zvpn,omitempty" moot:"services of other clusters are reached by port 15443: values.global.multiCluster.enabled"`
	InjectionTemplate  any    `json:"injectionTemplate,omitempty" only:"|gateway" because:"a gateway's pods are made by its chart; pods of your own become gateways by the annotation inject.istio.io/templates: gateway"`
}

// SecretVolume is a Secret that a gateway's pods have as files. It need not
// exist.
type SecretVolume struct {
	Name       string `json:"name"`
	SecretName string `json:"secretName"`
	MountPath  string `json:"mountPath"`
}

// CoreDNSValues are the settings of istiocoredns.
type CoreDNSValues struct {
	Enabled      *bool                       `json:"enabled,omitempty"`
	ReplicaCount *int32                      `json:"replicaCount,omitempty"`
	Resources    corev1.ResourceRequirements `json:"resources,omitempty"`
	CoreDNSImage any                         `json:"coreDNSImage,omitempty" refuse:"the DNS server is part of the image pilot"`
	CoreDNSTag   any                         `json:"coreDNSTag,omitempty" refuse:"the DNS server is part of the image pilot, whose tag is spec.tag"`
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

	InjectLabel    string               `json:"injectLabel,omitempty" only:"istio-injection" because:"the labels are istio-injection and istio.io/rev"`
	ObjectSelector ObjectSelectorValues `json:"objectSelector,omitempty"`

	InjectionURL       string `json:"injectionURL,omitempty" only:"" because:"the webhooks call the istiod of their own cluster, by its Service"`
	Templates          any    `json:"templates,omitempty" only:"map[]" because:"what is injected is code; a pod's own container istio-proxy with the image auto is laid over it"`
	DefaultTemplates   []any  `json:"defaultTemplates,omitempty" only:"[]" because:"what is injected by default is the sidecar"`
	ReinvocationPolicy string `json:"reinvocationPolicy,omitempty" only:"|Never" because:"the injector looks at a pod once"`
}

// ObjectSelectorValues let pods opt in and out by their label
// sidecar.istio.io/inject. Here they always may.
type ObjectSelectorValues struct {
	Enabled    *bool `json:"enabled,omitempty"`
	AutoInject *bool `json:"autoInject,omitempty" only:"true" because:"which pods get a sidecar is said by labels"`
}

// meshNetworks is istio.mesh.v1alpha1.MeshNetworks' map in JSON form.
type meshNetworks map[string]any
