package inject

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// autoImage is the image of a container that stands for the injected one.
const autoImage = "auto"

// ownContainer is a container istio-proxy that the pod brings with the image
// "auto": what it says is laid over the injected container.
type ownContainer struct {
	corev1.Container
	// path is where it stands in the pod, as a JSON pointer.
	path string
}

// takeOwn finds the pod's own istio-proxy, and returns the pod without it. The
// pod given is not changed.
func takeOwn(pod *corev1.Pod) (*ownContainer, *corev1.Pod) {
	rest := *pod
	for _, l := range []struct {
		path string
		list *[]corev1.Container
	}{{"/spec/containers/", &rest.Spec.Containers}, {"/spec/initContainers/", &rest.Spec.InitContainers}} {
		i := slices.IndexFunc(*l.list, func(c corev1.Container) bool { return c.Name == ProxyContainer && c.Image == autoImage })
		if i < 0 {
			continue
		}
		own := &ownContainer{Container: (*l.list)[i], path: l.path + strconv.Itoa(i)}
		*l.list = slices.Delete(slices.Clone(*l.list), i, i+1)
		return own, &rest
	}
	return nil, &rest
}

// overlayFields are the fields of a container that a pod may lay over the
// injected one. The others would make another program of it.
func overlayFields() []string {
	return []string{
		"name", "image", "imagePullPolicy", "resources", "env", "ports", "volumeMounts", "lifecycle",
		"readinessProbe", "livenessProbe", "startupProbe", "terminationMessagePath", "terminationMessagePolicy",
		"securityContext", "restartPolicy", "resizePolicy",
	}
}

// check refuses what may not be laid over the proxy's container, and warns of
// what has no effect.
func (o *ownContainer) check(base *corev1.Container) (warnings []string, err error) {
	fields, err := fieldsOf(o.Container)
	if err != nil {
		return nil, err
	}

	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !slices.Contains(overlayFields(), name) {
			return nil, fmt.Errorf("%s: it is the mesh's to set; what may be set is %s", name, strings.Join(overlayFields()[2:], ", "))
		}
	}

	if p := o.RestartPolicy; p != nil && *p != corev1.ContainerRestartPolicyAlways {
		return nil, fmt.Errorf("restartPolicy: %q: the proxy runs as long as the pod, so only Always is possible", *p)
	}
	if err := checkSecurity(o.SecurityContext, base.SecurityContext); err != nil {
		return nil, err
	}

	for _, m := range o.VolumeMounts {
		if taken := takenPath(m.MountPath, base.VolumeMounts); taken != "" {
			return nil, fmt.Errorf("volumeMounts: %s would hide %s, which the proxy needs; mount it elsewhere", m.MountPath, taken)
		}
	}

	for _, e := range o.Env {
		warning, err := checkEnv(e.Name)
		if err != nil {
			return nil, fmt.Errorf("env: %w", err)
		}
		if warning != "" {
			warnings = append(warnings, fmt.Sprintf("container %s: env: %s", ProxyContainer, warning))
		}
	}

	if err := checkLifecycle(o.Lifecycle, base.Lifecycle); err != nil {
		return nil, err
	}
	return warnings, nil
}

// checkSecurity lets through what is so anyway, and what narrows the container.
func checkSecurity(own, base *corev1.SecurityContext) error {
	asked, err := fieldsOf(own)
	if err != nil {
		return err
	}

	is, err := fieldsOf(base)
	if err != nil {
		return err
	}

	for _, name := range slices.Sorted(maps.Keys(asked)) {
		switch name {
		case "seccompProfile", "seLinuxOptions", "appArmorProfile":
			continue
		}
		if !reflect.DeepEqual(asked[name], is[name]) {
			return fmt.Errorf("securityContext.%s: the proxy runs as user %d without privileges, and redirection counts on that; leave it out", name, proxyUID)
		}
	}
	return nil
}

// checkLifecycle refuses hooks that the proxy needs for itself.
func checkLifecycle(own, base *corev1.Lifecycle) error {
	switch {
	case own == nil || base == nil:
		return nil
	case own.PostStart != nil && base.PostStart != nil:
		return fmt.Errorf("lifecycle.postStart: it is what holds the application until the proxy is ready (holdApplicationUntilProxyStarts); set that to false, or leave postStart out")
	case own.PreStop != nil && base.PreStop != nil:
		return fmt.Errorf("lifecycle.preStop: it is what tells the proxy that the pod begins to end; leave it out (terminationDrainDuration in the annotation %s says how long the proxy waits)", proxyConfigAnnotation)
	}
	return nil
}

// takenPath names the path of the proxy's own that a mount would hide.
func takenPath(mount string, base []corev1.VolumeMount) string {
	mount = path.Clean(mount)
	under := func(a, b string) bool { return a == b || strings.HasPrefix(a, strings.TrimSuffix(b, "/")+"/") }
	taken := []string{proxyBinary}
	for _, m := range base {
		taken = append(taken, m.MountPath)
	}

	for _, t := range taken {
		if under(mount, t) || under(t, mount) {
			return t
		}
	}
	return ""
}

// over lays the container over the injected one by strategic merge: mappings
// key by key, env by name, ports by number, mounts by path.
func (o *ownContainer) over(base corev1.Container) (corev1.Container, error) {
	patch := o.Container
	patch.Image = ""
	if patch.ImagePullPolicy == corev1.PullAlways {
		// The API server's default for an image without a tag, such as
		// "auto", and not what anybody asked for.
		patch.ImagePullPolicy = ""
	}

	// A probe that asks otherwise replaces the injected one: two ways of
	// asking in one probe are invalid.
	for _, p := range []struct {
		own  *corev1.Probe
		base **corev1.Probe
	}{{o.ReadinessProbe, &base.ReadinessProbe}, {o.StartupProbe, &base.StartupProbe}} {
		if p.own != nil && !reflect.DeepEqual(p.own.ProbeHandler, corev1.ProbeHandler{}) {
			*p.base = nil
		}
	}
	return mergeOver(base, patch)
}

// mergeOver lays one value over another of the same Kubernetes type.
func mergeOver[T any](base, over T) (T, error) {
	var out T
	b, err := json.Marshal(base)
	if err != nil {
		return out, err
	}

	o, err := json.Marshal(over)
	if err != nil {
		return out, err
	}

	merged, err := strategicpatch.StrategicMergePatch(b, o, out)
	if err != nil {
		return out, fmt.Errorf("lay container %s over the injected one: %w", ProxyContainer, err)
	}
	return out, json.Unmarshal(merged, &out)
}

// fieldsOf are the fields of a value that are set, in their JSON form.
func fieldsOf(v any) (map[string]any, error) {
	js, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}

	fields := map[string]any{}
	if err := json.Unmarshal(js, &fields); err != nil {
		return nil, err
	}

	for name, f := range fields {
		if m, ok := f.(map[string]any); ok && len(m) == 0 {
			delete(fields, name) // resources: {}, which every container has
		}
	}
	return fields, nil
}
