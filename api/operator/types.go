package operator

import (
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The group, version and kind that documents carry.
const (
	Group      = "install.istio.io"
	APIVersion = Group + "/v1alpha1"
	Kind       = "IstioOperator"
)

// IstioOperator says how one cluster's part of the mesh is to be installed.
type IstioOperator struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              Spec `json:"spec,omitempty"`
}

// Spec is the part of an IstioOperator that users write. The struct tag
// "refuse" gives the reason why a key is not accepted although Istio knows it,
// "off" the reason why it is accepted only as {enabled: false}, "moot" the reason
// why it is not accepted as {enabled: true}, "only" the
// values that are accepted (separated by |, for they ask for what is so anyway)
// and "because" why, "merge" the key by which the elements of a list are matched
// when one document overlays another, "oneof" the values allowed.
type Spec struct {
	// Profile names the built-in settings that this document is laid over.
	Profile string `json:"profile,omitempty"`
	// InstallPackagePath is Istio's name for a directory of other charts.
	InstallPackagePath string `json:"installPackagePath,omitempty" refuse:"the charts are built in; for charts of your own use the flag --charts"`
	Hub                string `json:"hub,omitempty"`
	Tag                string `json:"tag,omitempty"`
	// Namespace is where the control plane lives; istio-system by default.
	Namespace string `json:"namespace,omitempty"`
	// Revision names a control plane that stands beside others.
	Revision string `json:"revision,omitempty"`
	// MeshConfig is istio.mesh.v1alpha1.MeshConfig in JSON form.
	MeshConfig meshConfig `json:"meshConfig,omitempty"`
	Components Components `json:"components,omitempty"`
	// AddonComponents are components that Istio counts as extras.
	AddonComponents AddonComponents `json:"addonComponents,omitempty"`
	Values          Values          `json:"values,omitempty"`
	// UnvalidatedValues reach the charts as they are, unchecked.
	UnvalidatedValues map[string]any `json:"unvalidatedValues,omitempty"`
}

// Components are the parts of an installation.
type Components struct {
	Base            PlacedComponent `json:"base,omitempty"`
	Pilot           PlacedComponent `json:"pilot,omitempty"`
	IstiodRemote    PlacedComponent `json:"istiodRemote,omitempty" off:"a remote cluster runs the component pilot for injection and certificates; set values.global.remotePilotAddress"`
	CNI             PlacedComponent `json:"cni,omitempty" off:"pods are redirected by their own init container; there is no node agent to install"`
	Ztunnel         PlacedComponent `json:"ztunnel,omitempty" off:"there is no ambient mode: every pod of the mesh has its sidecar; leave the profile ambient out"`
	IngressGateways []Gateway       `json:"ingressGateways,omitempty" merge:"name"`
	EgressGateways  []Gateway       `json:"egressGateways,omitempty" merge:"name"`

	Policy          Component `json:"policy,omitempty" off:"Mixer's policy service does not exist here; policies are enforced in the proxies"`
	Telemetry       Component `json:"telemetry,omitempty" off:"Mixer's telemetry service does not exist here; every proxy serves its own metrics"`
	Citadel         Component `json:"citadel,omitempty" off:"certificates are signed by the component pilot"`
	Galley          Component `json:"galley,omitempty" off:"configuration is validated by the component pilot"`
	SidecarInjector Component `json:"sidecarInjector,omitempty" off:"injection is done by the component pilot"`
	NodeAgent       Component `json:"nodeAgent,omitempty" off:"proxies fetch their certificates themselves"`
}

// AddonComponents are the extras. The observability tools that Istio 1.6
// bundled are not part of this mesh.
type AddonComponents struct {
	IstioCoreDNS Component `json:"istiocoredns,omitempty"`
	Prometheus   Component `json:"prometheus,omitempty" off:"observability tools are not bundled; install their own charts, the proxies carry Prometheus scrape annotations"`
	Grafana      Component `json:"grafana,omitempty" off:"observability tools are not bundled; install their own charts"`
	Kiali        Component `json:"kiali,omitempty" off:"observability tools are not bundled; install their own charts"`
	Tracing      Component `json:"tracing,omitempty" off:"observability tools are not bundled; install their own charts"`
}

// Component is one part: whether it is installed, and how its Kubernetes
// objects differ from the chart's.
type Component struct {
	Enabled *bool               `json:"enabled,omitempty"`
	K8s     KubernetesResources `json:"k8s,omitempty"`
}

// On reports whether the component is to be installed.
func (c Component) On() bool { return c.Enabled != nil && *c.Enabled }

// PlacedComponent is a component whose namespace later versions of Istio let
// users write. It must be the control plane's.
type PlacedComponent struct {
	Component `json:",inline"`
	Namespace string `json:"namespace,omitempty"`
}

// Gateway is one gateway Deployment with its Service.
type Gateway struct {
	// Name is the name of the Deployment, Service and ServiceAccount.
	Name string `json:"name"`
	// Namespace is where the gateway runs; the control plane's by default.
	Namespace string `json:"namespace,omitempty"`
	// Label is added to the pods' labels, for Gateway selectors.
	Label     map[string]string `json:"label,omitempty"`
	Component `json:",inline"`
}

// KubernetesResources change rendered objects of a component.
type KubernetesResources struct {
	Affinity            *corev1.Affinity                           `json:"affinity,omitempty"`
	Env                 []corev1.EnvVar                            `json:"env,omitempty" merge:"name"`
	HPASpec             *autoscalingv2.HorizontalPodAutoscalerSpec `json:"hpaSpec,omitempty"`
	ImagePullPolicy     string                                     `json:"imagePullPolicy,omitempty" oneof:"Always|IfNotPresent|Never"`
	NodeSelector        map[string]string                          `json:"nodeSelector,omitempty"`
	PodDisruptionBudget *policyv1.PodDisruptionBudgetSpec          `json:"podDisruptionBudget,omitempty"`
	PodAnnotations      map[string]string                          `json:"podAnnotations,omitempty"`
	PriorityClassName   string                                     `json:"priorityClassName,omitempty"`
	ReadinessProbe      *corev1.Probe                              `json:"readinessProbe,omitempty"`
	ReplicaCount        *int32                                     `json:"replicaCount,omitempty"`
	Resources           *corev1.ResourceRequirements               `json:"resources,omitempty"`
	Service             *corev1.ServiceSpec                        `json:"service,omitempty"`
	ServiceAnnotations  map[string]string                          `json:"serviceAnnotations,omitempty"`
	Strategy            *appsv1.DeploymentStrategy                 `json:"strategy,omitempty"`
	SecurityContext     *corev1.PodSecurityContext                 `json:"securityContext,omitempty"`
	Tolerations         []corev1.Toleration                        `json:"tolerations,omitempty"`
	Volumes             []corev1.Volume                            `json:"volumes,omitempty" merge:"name"`
	VolumeMounts        []corev1.VolumeMount                       `json:"volumeMounts,omitempty" merge:"name"`
	Overlays            []Overlay                                  `json:"overlays,omitempty"`
}

// Overlay changes one rendered object by path.
type Overlay struct {
	APIVersion string  `json:"apiVersion,omitempty"`
	Kind       string  `json:"kind"`
	Name       string  `json:"name"`
	Patches    []Patch `json:"patches,omitempty"`
}

// Patch sets the value at a path such as
// spec.template.spec.containers[name:discovery].args[1]; a missing value
// removes what is there.
type Patch struct {
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// meshConfig is free-form here; its keys are checked against the protobuf
// message.
type meshConfig map[string]any

// Typed returns the spec of a checked tree as Go values.
func (t Tree) Typed() (*Spec, error) {
	raw, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("encode spec: %w", err)
	}
	spec := &Spec{}
	if err := json.Unmarshal(raw, spec); err != nil {
		return nil, fmt.Errorf("spec: %w", err)
	}
	return spec, nil
}
