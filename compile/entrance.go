package compile

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/model"
)

// What a Service says of being reached from other networks.
const (
	// labelGatewayPort is the port of a gateway that is not at
	// defaultGatewayPort.
	labelGatewayPort   = "networking.istio.io/gatewayPort"
	defaultGatewayPort = 15443
	// nodeSelectorAnnotation, a JSON object of labels, tells that a Service is
	// reached at its node ports on the nodes that have these labels; {} is all
	// nodes.
	nodeSelectorAnnotation = "traffic.istio.io/nodeSelector"
)

// AsksForNodes tells whether the addresses of nodes are those of the Service.
func AsksForNodes(svc *corev1.Service) bool {
	_, asked := svc.Annotations[nodeSelectorAnnotation]
	return asked
}

// Entrance makes the row of a Service that can be reached from outside its
// cluster, or says that it leads into a network. It is nil for all others.
// problem says what of the Service is not understood, or keeps it from being the
// gateway that its label makes it.
func Entrance(c model.ClusterID, svc *corev1.Service, clusterDomain string, nodes []Node) (row *model.Entrance, problem string) {
	row = &model.Entrance{
		Cluster: c, Namespace: svc.Namespace, Name: svc.Name,
		Host:    Host(svc.Namespace, svc.Name, clusterDomain),
		Network: svc.Labels[LabelNetwork],
	}
	if row.Network != "" {
		if row.GatewayPort, problem = gatewayPort(svc); problem != "" {
			row.Network = ""
		}
	}

	row.Addresses, row.Ports = balancerAddresses(svc), map[uint16]uint16{}
	atNodes := len(row.Addresses) == 0 && AsksForNodes(svc)
	if atNodes {
		var err error
		if row.Addresses, err = addressesOfNodes(svc.Annotations[nodeSelectorAnnotation], nodes); err != nil {
			problem = fmt.Sprintf("annotation %s: %v", nodeSelectorAnnotation, err)
		}
	}
	for _, p := range svc.Spec.Ports {
		if p.Protocol != "" && p.Protocol != corev1.ProtocolTCP {
			continue
		}
		switch {
		case !atNodes:
			row.Ports[uint16(p.Port)] = uint16(p.Port)
		case p.NodePort != 0:
			row.Ports[uint16(p.Port)] = uint16(p.NodePort)
		}
	}

	if len(row.Addresses) == 0 && row.Network == "" {
		return nil, problem
	}
	if problem == "" && row.Network != "" && row.Ports[row.GatewayPort] == 0 {
		problem = fmt.Sprintf("it has no port %d, where other clusters' traffic for network %q would go; give it one, or name another by the label %s",
			row.GatewayPort, row.Network, labelGatewayPort)
		if atNodes {
			problem = fmt.Sprintf("its port %d has no nodePort; set spec.type to NodePort", row.GatewayPort)
		}
	}
	return row, problem
}

// gatewayPort reads the port of a gateway. A value that is none makes the
// Service no gateway at all: nothing is sent to where nobody meant it to go.
func gatewayPort(svc *corev1.Service) (port uint16, problem string) {
	text, given := svc.Labels[labelGatewayPort]
	if !given {
		return defaultGatewayPort, ""
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Sprintf("label %s: %q is not a port (1 to 65535); it is no gateway of network %q until that is corrected",
			labelGatewayPort, text, svc.Labels[LabelNetwork])
	}
	return uint16(n), ""
}

// balancerAddresses are those of the load balancer, and the externalIPs.
func balancerAddresses(svc *corev1.Service) []string {
	out := slices.Clone(svc.Spec.ExternalIPs)
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
		for _, in := range svc.Status.LoadBalancer.Ingress {
			if in.IP != "" {
				out = append(out, in.IP)
			} else if in.Hostname != "" {
				out = append(out, in.Hostname)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// addressesOfNodes are those of the nodes with the labels: of the ready ones, or
// of all when none is, as a node that is not ready may still forward.
func addressesOfNodes(selector string, nodes []Node) ([]string, error) {
	var labels map[string]string
	if err := json.Unmarshal([]byte(selector), &labels); err != nil {
		return nil, fmt.Errorf(`%q is not a JSON object of labels, such as {"kubernetes.io/os": "linux"}, or {} for all nodes`, selector)
	}

	var ready, all []string
	for i := range nodes {
		if !hasLabels(nodes[i].Labels, labels) {
			continue
		}
		all = append(all, nodes[i].Addresses...)
		if nodes[i].Ready {
			ready = append(ready, nodes[i].Addresses...)
		}
	}
	if len(ready) == 0 {
		ready = all
	}
	slices.Sort(ready)
	return slices.Compact(ready), nil
}

// hasLabels tells whether labels hold everything that is wanted.
func hasLabels(labels, want map[string]string) bool {
	for k, v := range want {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}
