package compile

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/model"
)

// exportToAnnotation limits which namespaces see a Kubernetes service.
const exportToAnnotation = "networking.istio.io/exportTo"

// ReadsAnnotation tells whether an annotation is read; of all others package
// kube keeps none.
func ReadsAnnotation(name string) bool {
	return name == exportToAnnotation || name == api.AnnotationDistribution || name == nodeSelectorAnnotation
}

// Host is the host name of a Kubernetes service.
func Host(namespace, name, clusterDomain string) string {
	return name + "." + namespace + ".svc." + clusterDomain
}

// Service makes the row of a Kubernetes service. inherited is what its namespace says
// of how calls are distributed (api.AnnotationDistribution), which holds where the
// service says nothing of that. When the mesh has no use for the service, the row is nil
// and reason says why.
func Service(c model.ClusterID, svc *corev1.Service, clusterDomain, inherited string) (row *model.Service, reason string) {
	exports := splitList(svc.Annotations[exportToAnnotation])
	row = &model.Service{
		Host:      Host(svc.Namespace, svc.Name, clusterDomain),
		Cluster:   c,
		Namespace: svc.Namespace,
		Name:      svc.Name,
		Origin:    model.FromKubernetes,
		Created:   svc.CreationTimestamp.Time,
		Headless:  svc.Spec.ClusterIP == corev1.ClusterIPNone,
		Selector:  svc.Spec.Selector,
		ExportTo:  exportTo(exports, svc.Namespace),

		ExportByDefault: len(exports) == 0,
	}

	row.NodeLocal = svc.Spec.InternalTrafficPolicy != nil && *svc.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
	// The annotation does the same on Kubernetes versions without the field.
	said, ok := svc.Annotations[api.AnnotationDistribution]
	switch {
	case svc.Spec.TrafficDistribution != nil:
		said = *svc.Spec.TrafficDistribution
	case !ok:
		said = inherited
	}
	row.Distribution = distribution(said)
	row.NotReadyToo = svc.Spec.PublishNotReadyAddresses
	switch {
	case svc.Spec.Type == corev1.ServiceTypeExternalName:
		row.Alias = strings.ToLower(strings.TrimSuffix(svc.Spec.ExternalName, "."))
		if api.OwnMachine(row.Alias) {
			return nil, "externalName " + row.Alias + " is every client's own machine"
		}
		row.Headless, row.Selector = false, nil
		row.External, row.Resolution = true, model.ByDNS
	case row.Headless:
		row.Resolution = model.ByDestination
	default:
		row.Addresses = serviceAddresses(svc)
	}

	for _, p := range svc.Spec.Ports {
		if p.Protocol != "" && p.Protocol != corev1.ProtocolTCP {
			continue
		}

		port := model.Port{
			Name:     p.Name,
			Number:   uint16(p.Port),
			Protocol: Protocol(p.Name, p.AppProtocol, p.Port),
		}

		switch {
		case p.TargetPort.Type == intstr.String && p.TargetPort.StrVal != "":
			port.TargetName = p.TargetPort.StrVal
		case p.TargetPort.IntVal != 0:
			port.Target = uint16(p.TargetPort.IntVal)
		default:
			port.Target = port.Number
		}
		row.Ports = append(row.Ports, port)
	}

	row.Ports = sortPorts(row.Ports)
	if len(row.Ports) == 0 && row.Alias == "" {
		// An alias needs none: it has those of the service that it names.
		return nil, "the service has no TCP port"
	}

	if row.Alias != "" {
		row.Resolved = []model.Endpoint{{Address: row.Alias, Ports: aliasPorts(row.Ports)}}
	}
	return row, ""
}

// distribution reads a value of spec.trafficDistribution. PreferClose is an older
// name of PreferSameZone (Kubernetes, KEP-3015).
func distribution(value string) model.Distribution {
	switch value {
	case "PreferClose", "PreferSameZone":
		return model.PreferZone
	case "PreferSameNode":
		return model.PreferNode
	}
	return model.DistributeAny
}

// aliasPorts are the ports at the host that an ExternalName service names.
// Kubernetes translates none of them: there is only a CNAME record.
func aliasPorts(ports []model.Port) map[string]uint16 {
	out := make(map[string]uint16, len(ports))
	for _, p := range ports {
		out[p.Name] = p.Number
	}
	return out
}

// serviceAddresses are the cluster IPs, of one or both families.
func serviceAddresses(svc *corev1.Service) []netip.Prefix {
	ips := svc.Spec.ClusterIPs
	if len(ips) == 0 && svc.Spec.ClusterIP != "" {
		ips = []string{svc.Spec.ClusterIP}
	}
	var out []netip.Prefix
	for _, ip := range ips {
		if addr, err := netip.ParseAddr(ip); err == nil {
			out = append(out, netip.PrefixFrom(addr, addr.BitLen()))
		}
	}
	return out
}

// sortPorts sorts by number and drops a second port of the same number.
func sortPorts(ports []model.Port) []model.Port {
	slices.SortStableFunc(ports, func(a, b model.Port) int { return cmp.Compare(a.Number, b.Number) })
	return slices.CompactFunc(ports, func(a, b model.Port) bool { return a.Number == b.Number })
}

// exportTo resolves "." and "*": an empty result is everywhere.
func exportTo(list []string, namespace string) []string {
	var out []string
	for _, e := range list {
		switch e {
		case "*":
			return nil
		case ".":
			e = namespace
		}
		out = append(out, e)
	}

	slices.Sort(out)
	return slices.Compact(out)
}

func splitList(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}
