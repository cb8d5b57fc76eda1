package inject

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// checkPod refuses pods that would slip past the proxy or collide with it. The
// pod is without the container that is laid over the proxy's, if it had one.
func (b *builder) checkPod() error {
	if len(b.pod.Spec.Containers) == 0 && !b.gateway() {
		return fmt.Errorf("spec.containers: the pod has none besides the proxy's; for a gateway, add the annotation %s: gateway", templatesAnnotation)
	}
	for _, c := range b.pod.Spec.InitContainers {
		if c.Name == InitContainer {
			return fmt.Errorf("init container %s: the name is needed for the mesh's own; rename it (its resources follow the annotations sidecar.istio.io/proxyCPU and its kin)", c.Name)
		}
	}

	taken := map[string]bool{tokenVolume: true, rootVolume: true, podinfoVolume: true, stateVolume: true}
	for _, v := range b.pod.Spec.Volumes {
		if taken[v.Name] {
			return fmt.Errorf("volume %s: the name is needed for the proxy's own; rename it", v.Name)
		}
	}

	if err := checkMounts(&b.pod.Spec, taken); err != nil {
		return err
	}

	if b.gateway() {
		return nil // nothing is redirected, so nothing can slip past
	}
	return checkUsers(&b.pod.Spec)
}

// checkMounts refuses containers that mount a volume of the proxy, which the pod
// gets only here: the proxy's key is in one of them, and the configuration that it
// starts with.
func checkMounts(spec *corev1.PodSpec, ofProxy map[string]bool) error {
	for _, l := range []struct {
		what string
		list []corev1.Container
	}{{"container", spec.Containers}, {"init container", spec.InitContainers}} {
		for i := range l.list {
			for _, m := range l.list[i].VolumeMounts {
				if ofProxy[m.Name] {
					return fmt.Errorf("%s %s mounts the volume %s, which is the proxy's alone; leave that out", l.what, l.list[i].Name, m.Name)
				}
			}
		}
	}
	return nil
}

// checkUsers refuses containers that run as the proxy's user or group: the
// redirection lets both pass, or the proxy's own traffic would come back to it.
// A user that only the image names cannot be seen here.
func checkUsers(spec *corev1.PodSpec) error {
	for _, l := range []struct {
		what string
		list []corev1.Container
	}{{"container", spec.Containers}, {"init container", spec.InitContainers}} {
		for i := range l.list {
			c := &l.list[i]
			user, group := runsAs(spec.SecurityContext, c.SecurityContext)
			if user == proxyUID {
				return fmt.Errorf("%s %s runs as user %d, which is the proxy's: its traffic would pass by the mesh; give it another runAsUser", l.what, c.Name, proxyUID)
			}
			if group == proxyUID {
				return fmt.Errorf("%s %s runs as group %d, which is the proxy's: its traffic would pass by the mesh; give it another runAsGroup", l.what, c.Name, proxyUID)
			}
		}
	}
	return nil
}

// runsAs is the user and group of a container, -1 where its image decides: what
// the container says counts for more than what the pod says.
func runsAs(pod *corev1.PodSecurityContext, own *corev1.SecurityContext) (user, group int64) {
	user, group = -1, -1
	if pod != nil {
		user, group = orElse(pod.RunAsUser, user), orElse(pod.RunAsGroup, group)
	}
	if own != nil {
		user, group = orElse(own.RunAsUser, user), orElse(own.RunAsGroup, group)
	}
	return user, group
}

func orElse(v *int64, fallback int64) int64 {
	if v == nil {
		return fallback
	}
	return *v
}
