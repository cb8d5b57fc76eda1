package compile

import (
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestEntrance: how Services are reached from outside, and what is said of those
// that cannot be.
func TestEntrance(t *testing.T) {
	nodes := []Node{
		{Addresses: []string{"172.18.0.3"}, Ready: true, Labels: map[string]string{"edge": "yes"}},
		{Addresses: []string{"172.18.0.2"}, Ready: true},
		{Addresses: []string{"172.18.0.4"}, Labels: map[string]string{"edge": "yes"}},
		{Addresses: []string{"172.18.0.5"}, Labels: map[string]string{"alone": "yes"}},
	}
	network := func(more ...string) map[string]string {
		m := map[string]string{LabelNetwork: "net2"}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	balancer := func(svc *corev1.Service) {
		svc.Spec.Type = corev1.ServiceTypeLoadBalancer
		svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.2"}, {IP: "192.0.2.1"}, {Hostname: "lb.example.com"}, {IP: "192.0.2.1"}}
	}
	selecting := func(selector string) func(*corev1.Service) {
		return func(svc *corev1.Service) {
			svc.Annotations = map[string]string{"traffic.istio.io/nodeSelector": selector}
			svc.Spec.Type = corev1.ServiceTypeNodePort
			svc.Spec.Ports[0].NodePort = 31443
		}
	}
	nothing := func(*corev1.Service) {}
	both := func(a, b func(*corev1.Service)) func(*corev1.Service) {
		return func(svc *corev1.Service) { a(svc); b(svc) }
	}

	for _, tt := range []struct {
		what    string
		labels  map[string]string
		change  func(*corev1.Service)
		none    bool // there is no row
		network string
		port    uint16 // of other clusters' traffic
		at      map[uint16]uint16
		want    []string
		problem string
	}{
		{what: "an ordinary one", change: nothing, none: true},
		{
			what: "a load balancer", change: balancer,
			at: map[uint16]uint16{15443: 15443}, want: []string{"192.0.2.1", "192.0.2.2", "lb.example.com"},
		},
		{
			what: "a gateway's load balancer", labels: network(), change: balancer, network: "net2", port: 15443,
			at: map[uint16]uint16{15443: 15443}, want: []string{"192.0.2.1", "192.0.2.2", "lb.example.com"},
		},
		{
			what: "a gateway without an address yet", labels: network(), network: "net2", port: 15443,
			change: func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeLoadBalancer },
			at:     map[uint16]uint16{15443: 15443},
		},
		{
			what: "external addresses", labels: network(), network: "net2", port: 15443,
			change: func(svc *corev1.Service) { svc.Spec.ExternalIPs = []string{"198.51.100.1"} },
			at:     map[uint16]uint16{15443: 15443}, want: []string{"198.51.100.1"},
		},
		{
			what: "another port", labels: network("networking.istio.io/gatewayPort", "443"), network: "net2", port: 443,
			change: both(balancer, func(svc *corev1.Service) { svc.Spec.Ports[0].Port = 443 }),
			at:     map[uint16]uint16{443: 443}, want: []string{"192.0.2.1", "192.0.2.2", "lb.example.com"},
		},
		{
			what: "a port that it does not have", labels: network("networking.istio.io/gatewayPort", "444"), network: "net2", port: 444,
			change: balancer, at: map[uint16]uint16{15443: 15443}, want: []string{"192.0.2.1", "192.0.2.2", "lb.example.com"},
			problem: "it has no port 444",
		},
		{
			what: "a port that is none", labels: network("networking.istio.io/gatewayPort", "http"), change: balancer,
			at: map[uint16]uint16{15443: 15443}, want: []string{"192.0.2.1", "192.0.2.2", "lb.example.com"},
			problem: `"http" is not a port`,
		},
		{
			what: "all nodes that are ready", labels: network(), change: selecting("{}"), network: "net2", port: 15443,
			at: map[uint16]uint16{15443: 31443}, want: []string{"172.18.0.2", "172.18.0.3"},
		},
		{
			what: "some nodes", labels: network(), change: selecting(`{"edge": "yes"}`), network: "net2", port: 15443,
			at: map[uint16]uint16{15443: 31443}, want: []string{"172.18.0.3"},
		},
		{
			what: "no node that is ready", labels: network(), change: selecting(`{"alone": "yes"}`), network: "net2", port: 15443,
			at: map[uint16]uint16{15443: 31443}, want: []string{"172.18.0.5"},
		},
		{
			what: "a selector that is none", labels: network(), change: selecting("edge"), network: "net2", port: 15443,
			at: map[uint16]uint16{15443: 31443}, problem: `"edge" is not a JSON object of labels`,
		},
		{
			what: "nodes without a node port", labels: network(), network: "net2", port: 15443,
			change: both(selecting("{}"), func(svc *corev1.Service) { svc.Spec.Ports[0].NodePort = 0 }),
			at:     map[uint16]uint16{}, want: []string{"172.18.0.2", "172.18.0.3"}, problem: "no nodePort",
		},
		{
			what: "a load balancer comes before nodes", labels: network(), network: "net2", port: 15443,
			change: both(selecting("{}"), balancer),
			at:     map[uint16]uint16{15443: 15443}, want: []string{"192.0.2.1", "192.0.2.2", "lb.example.com"},
		},
	} {
		svc := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "gw", Labels: tt.labels},
			Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{
				{Port: 15443},
				{Port: 53, Protocol: corev1.ProtocolUDP},
			}},
		}
		tt.change(svc)
		row, problem := Entrance("c2", svc, "cluster.local", nodes)
		if !strings.Contains(problem, tt.problem) || (problem == "") != (tt.problem == "") {
			t.Errorf("%s: problem %q, want %q", tt.what, problem, tt.problem)
		}
		if row == nil {
			if !tt.none {
				t.Errorf("%s: no row", tt.what)
			}
			continue
		}
		if tt.none || row.Host != "gw.istio-system.svc.cluster.local" || row.Network != tt.network || row.GatewayPort != tt.port ||
			!maps.Equal(row.Ports, tt.at) || !slices.Equal(row.Addresses, tt.want) {
			t.Errorf("%s: %+v", tt.what, row)
		}
	}
}

// TestNodeAddresses: external addresses come before internal ones.
func TestNodeAddresses(t *testing.T) {
	node := &corev1.Node{Status: corev1.NodeStatus{
		Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeHostName, Address: "n1"},
			{Type: corev1.NodeInternalIP, Address: "10.0.0.1"},
			{Type: corev1.NodeExternalIP, Address: "192.0.2.9"},
		},
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}},
	}}
	if n := NodeOf(node); n.Ready || !slices.Equal(n.Addresses, []string{"192.0.2.9"}) {
		t.Errorf("%+v", n)
	}
	node.Status.Addresses = node.Status.Addresses[:2]
	node.Status.Conditions = nil
	if n := NodeOf(node); !n.Ready || !slices.Equal(n.Addresses, []string{"10.0.0.1"}) {
		t.Errorf("%+v", n)
	}
}
