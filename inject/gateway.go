package inject

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// templatesAnnotation says what is injected into a pod.
const templatesAnnotation = "inject.istio.io/templates"

// The templates that there are. They are Istio's names; here each is code.
const (
	sidecarTemplate = "sidecar"
	gatewayTemplate = "gateway"
)

// unprivilegedPorts is the setting of a pod's network namespace that lets a
// user who is not root listen on ports below it.
const unprivilegedPorts = "net.ipv4.ip_unprivileged_port_start"

func readTemplate(v string, o *options) error {
	switch v {
	case sidecarTemplate, gatewayTemplate:
		o.template = v
		return nil
	}
	return fmt.Errorf("%q is not a template known here; there are %s and %s, one at a time", v, sidecarTemplate, gatewayTemplate)
}

// podOps changes what is the pod's as a whole: a sidecar's pod looks names up in
// the mesh's domains, a gateway's may listen on port 80.
func (b *builder) podOps() ([]operation, error) {
	if !b.gateway() {
		return dnsConfigOps(b.pod, b.settings.Values, b.namespace)
	}

	lowPorts := corev1.Sysctl{Name: unprivilegedPorts, Value: "0"}
	sc := b.pod.Spec.SecurityContext
	switch {
	case b.pod.Spec.HostNetwork:
		return nil, nil // the setting is the node's then
	case sc == nil:
		return []operation{addOp("/spec/securityContext", corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{lowPorts}})}, nil
	case len(sc.Sysctls) == 0:
		return []operation{addOp("/spec/securityContext/sysctls", []corev1.Sysctl{lowPorts})}, nil
	}

	for _, s := range sc.Sysctls {
		if s.Name == unprivilegedPorts {
			return nil, nil
		}
	}
	return []operation{addOp("/spec/securityContext/sysctls/-", lowPorts)}, nil
}
