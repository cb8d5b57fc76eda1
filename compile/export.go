package compile

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/model"
)

// Offer is what a Service says of itself to those to whom it is exported.
func Offer(svc *corev1.Service) *model.Offer {
	out := &model.Offer{
		Alias:    svc.Spec.Type == corev1.ServiceTypeExternalName,
		Headless: svc.Spec.ClusterIP == corev1.ClusterIPNone,
	}

	for _, p := range svc.Spec.Ports {
		port := model.ServicePort{Name: p.Name, Number: uint16(p.Port), Transport: string(p.Protocol)}
		if port.Transport == "" {
			port.Transport = string(corev1.ProtocolTCP)
		}
		if p.AppProtocol != nil {
			port.AppProtocol = *p.AppProtocol
		}
		out.Ports = append(out.Ports, port)
	}

	if svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		out.Affinity.ByClientIP = true
		if c := svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
			out.Affinity.Timeout = *c.ClientIP.TimeoutSeconds
		}
	}
	return out
}
