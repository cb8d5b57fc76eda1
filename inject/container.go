package inject

import (
	"cmp"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/isthmus-mesh/isthmus/identity"
)

// The volumes of the proxy, and where they are mounted.
const (
	tokenVolume   = "istio-token"
	rootVolume    = "istiod-ca-cert"
	podinfoVolume = "istio-podinfo"
	stateVolume   = "istio-proxy-state"

	tokenSeconds = 43200
)

// proxyBinary is the one program in the proxy's image.
const proxyBinary = "/isthmus-proxy"

// containerOps adds the containers. The redirection and a native sidecar come
// before the application's init containers, which then have the mesh to call; a
// plain sidecar starts after them, so the redirection comes last. A gateway
// redirects nothing.
func (b *builder) containerOps() ([]operation, error) {
	proxy, err := b.proxyContainer()
	if err != nil {
		return nil, err
	}

	spec := &b.pod.Spec
	if b.gateway() {
		return insertOps("/spec/containers", true, proxy), nil
	}

	initial := b.initContainer()
	if b.native {
		return insertOps("/spec/initContainers", len(spec.InitContainers) > 0, initial, proxy), nil
	}

	ops := appendOps("/spec/initContainers", len(spec.InitContainers) > 0, initial)
	if b.hold {
		return append(ops, insertOps("/spec/containers", true, proxy)...), nil
	}
	return append(ops, appendOps("/spec/containers", true, proxy)...), nil
}

// insertOps puts items at the head of a list; appendOps, at its end.
func insertOps[T any](path string, exists bool, items ...T) []operation {
	if !exists {
		return []operation{addOp(path, items)}
	}
	var ops []operation
	for i := len(items) - 1; i >= 0; i-- {
		ops = append(ops, addOp(path+"/0", items[i]))
	}
	return ops
}

func appendOps[T any](path string, exists bool, items ...T) []operation {
	if !exists {
		return []operation{addOp(path, items)}
	}
	var ops []operation
	for i := range items {
		ops = append(ops, addOp(path+"/-", items[i]))
	}
	return ops
}

// initContainer needs root and NET_ADMIN to write the nftables rules of the
// pod's network namespace, and nothing else. Its image is the mesh's: one that a
// pod names would run as root where the namespace's rules let no pod do so.
func (b *builder) initContainer() corev1.Container {
	v := b.settings.Values
	resources := v.Global.ProxyInit.Resources
	if b.ownResources() || len(resources.Requests) == 0 && len(resources.Limits) == 0 {
		// What the pod says of its proxy holds for all that is injected: a
		// namespace's LimitRange looks at every container.
		resources = b.resources
	}

	return corev1.Container{
		Name:            InitContainer,
		Image:           v.Global.image(v.Global.ProxyInit.Image),
		ImagePullPolicy: corev1.PullPolicy(v.Global.ImagePullPolicy),
		Args:            b.redirectArgs(),
		Resources:       resources,
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr(false),
			Privileged:               ptr(false),
			ReadOnlyRootFilesystem:   ptr(true),
			RunAsNonRoot:             ptr(false),
			RunAsUser:                ptr(int64(0)),
			RunAsGroup:               ptr(int64(0)),
			Capabilities:             &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN"}, Drop: []corev1.Capability{"ALL"}},
		},
	}
}

// proxyContainer is the injected container, with the pod's own laid over it.
func (b *builder) proxyContainer() (corev1.Container, error) {
	c := b.plainProxy()
	if b.own == nil {
		return c, nil
	}
	warnings, err := b.own.check(&c)
	if err != nil {
		return c, fmt.Errorf("container %s: %w", ProxyContainer, err)
	}
	b.warnings = append(b.warnings, warnings...)
	return b.own.over(c)
}

func (b *builder) plainProxy() corev1.Container {
	v := b.settings.Values
	image := b.options.image
	if image == "" {
		image = v.Global.image(v.Global.Proxy.Image)
	}

	c := corev1.Container{
		Name:            ProxyContainer,
		Image:           image,
		ImagePullPolicy: corev1.PullPolicy(v.Global.ImagePullPolicy),
		Args:            []string{"sidecar"},
		Ports:           []corev1.ContainerPort{{Name: "http-envoy-prom", ContainerPort: 15090, Protocol: corev1.ProtocolTCP}},
		Env:             b.env(),
		Resources:       b.resources,
		StartupProbe:    b.probe(1, 600, 0),
		ReadinessProbe:  b.readinessProbe(),
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr(false),
			Privileged:               ptr(false),
			ReadOnlyRootFilesystem:   ptr(true),
			RunAsNonRoot:             ptr(true),
			RunAsUser:                ptr(int64(proxyUID)),
			RunAsGroup:               ptr(int64(proxyUID)),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
		VolumeMounts: b.mounts(),
	}

	switch {
	case b.gateway():
		c.Args = []string{"router"}
	case b.native:
		// The kubelet runs this hook when the pod begins to end, together with
		// the application's SIGTERM, and the proxy's own comes after the
		// application has ended: without the hook callers would be asked too
		// late to go elsewhere.
		c.RestartPolicy = ptr(corev1.ContainerRestartPolicyAlways)
		c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{
			Exec: &corev1.ExecAction{Command: []string{"/isthmus-proxy", "request", "POST", "/drain"}},
		}}
	case b.hold:
		c.Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{
			Exec: &corev1.ExecAction{Command: []string{proxyBinary, "wait"}},
		}}
	}

	return c
}

func (b *builder) readinessProbe() *corev1.Probe {
	r, mesh := b.options.readiness, &b.settings.Values.Global.Proxy
	period := cmp.Or(r.period, mesh.ReadinessPeriodSeconds, 10)
	failures := cmp.Or(r.failures, mesh.ReadinessFailureThreshold, 3)
	return b.probe(period, failures, cmp.Or(r.initialDelay, mesh.ReadinessInitialDelaySeconds))
}

// probe asks the proxy whether it can carry traffic; seconds and counts.
func (b *builder) probe(period, failures, delay int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
			Path: "/healthz/ready", Port: intstr.FromInt32(readinessPort), Scheme: corev1.URISchemeHTTP,
		}},
		InitialDelaySeconds: delay,
		TimeoutSeconds:      3,
		PeriodSeconds:       period,
		SuccessThreshold:    1,
		FailureThreshold:    failures,
	}
}

func (b *builder) mounts() []corev1.VolumeMount {
	mounts := []corev1.VolumeMount{
		{Name: rootVolume, MountPath: "/var/run/secrets/istio", ReadOnly: true},
		{Name: podinfoVolume, MountPath: "/etc/istio/pod", ReadOnly: true},
		{Name: stateVolume, MountPath: "/etc/istio/proxy"},
	}
	if b.thirdPartyToken() {
		mounts = append(mounts, corev1.VolumeMount{Name: tokenVolume, MountPath: "/var/run/secrets/tokens", ReadOnly: true})
	}
	return mounts
}

func (b *builder) thirdPartyToken() bool {
	return b.settings.Values.Global.JWTPolicy == identity.JWTThirdParty
}

func (b *builder) volumes() []corev1.Volume {
	volumes := []corev1.Volume{
		{Name: rootVolume, VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: "istio-ca-root-cert"},
		}}},
		{Name: podinfoVolume, VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{
			Items: []corev1.DownwardAPIVolumeFile{
				{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}},
				{Path: "annotations", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations"}},
			},
		}}},
		{Name: stateVolume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
	}

	if b.thirdPartyToken() {
		volumes = append(volumes, corev1.Volume{Name: tokenVolume, VolumeSource: corev1.VolumeSource{
			Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{
				ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
					Audience: identity.TokenAudience, ExpirationSeconds: ptr(int64(tokenSeconds)), Path: "istio-token",
				},
			}}},
		}})
	}
	return volumes
}

func (b *builder) volumeOps() []operation {
	ops := appendOps("/spec/volumes", len(b.pod.Spec.Volumes) > 0, b.volumes()...)
	var secrets []corev1.LocalObjectReference
	have := map[string]bool{}
	for _, s := range b.pod.Spec.ImagePullSecrets {
		have[s.Name] = true
	}

	for _, name := range b.settings.Values.Global.ImagePullSecrets {
		if !have[name] {
			secrets = append(secrets, corev1.LocalObjectReference{Name: name})
		}
	}
	if len(secrets) == 0 {
		return ops
	}
	return append(ops, appendOps("/spec/imagePullSecrets", len(b.pod.Spec.ImagePullSecrets) > 0, secrets...)...)
}

func ptr[T any](v T) *T { return &v }
