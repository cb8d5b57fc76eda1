package clusters

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// The size of a cluster: services, each with its pods, over namespaces and
// nodes.
const (
	services   = 200
	podsEach   = 5
	namespaces = 10
	nodes      = 10

	// everywhere is how many services there are to each one that all clusters
	// have.
	everywhere = 10

	controlNamespace = "istio-system"
)

// clusterName is the name of a cluster in the mesh; 0 is the control plane's own.
func clusterName(c int) string { return fmt.Sprintf("cluster-%d", c) }

// network is where the pods of a cluster are: every cluster has its own.
func network(c int) string { return fmt.Sprintf("network-%d", c) }

func namespace(s int) string { return fmt.Sprintf("ns-%d", s%namespaces) }

// serviceName is a service's name: some are in all clusters, and so one service
// of the mesh; the others are their cluster's.
func serviceName(c, s int) string {
	if s%everywhere == 0 {
		return fmt.Sprintf("everywhere-%d", s)
	}
	return fmt.Sprintf("own-%d-%d", c, s)
}

// podAddress is the same in every cluster: ranges that nobody planned together.
func podAddress(s, p int) netip.Addr {
	n := s*podsEach + p
	return netip.AddrFrom4([4]byte{10, 20, byte(n >> 8), byte(n)})
}

func serviceAddress(s int) string {
	return netip.AddrFrom4([4]byte{10, 96, byte(s >> 8), byte(s)}).String()
}

// objects are all that a cluster holds.
func objects(c int) []runtime.Object {
	out := []runtime.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name: controlNamespace, Labels: map[string]string{"topology.istio.io/network": network(c)},
		}},
		gateway(c),
	}
	for n := range namespaces {
		out = append(out, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace(n)}})
	}
	for n := range nodes {
		out = append(out, &corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name: nodeName(n),
			Labels: map[string]string{
				corev1.LabelTopologyRegion: fmt.Sprintf("region-%d", c),
				corev1.LabelTopologyZone:   fmt.Sprintf("zone-%d", n%3),
			},
		}})
	}
	for s := range services {
		out = append(out, service(c, s), slice(c, s, podsEach))
		for p := range podsEach {
			out = append(out, pod(c, s, p))
		}
	}
	return out
}

func nodeName(n int) string { return fmt.Sprintf("node-%d", n) }

// gateway is the way into the cluster's network.
func gateway(c int) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: controlNamespace, Name: "istio-eastwestgateway",
			Labels: map[string]string{"topology.istio.io/network": network(c)},
		},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.96.255.1",
			Ports: []corev1.ServicePort{{Name: "tls", Port: 15443, TargetPort: intstr.FromInt32(15443)}},
		},
		Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{
			Ingress: []corev1.LoadBalancerIngress{{IP: fmt.Sprintf("192.0.2.%d", c+1)}},
		}},
	}
}

func service(c, s int) *corev1.Service {
	name := serviceName(c, s)
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace(s), Name: name, Labels: map[string]string{"app": name}},
		Spec: corev1.ServiceSpec{
			ClusterIP: serviceAddress(s), ClusterIPs: []string{serviceAddress(s)},
			Selector: map[string]string{"app": name},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}
}

func podName(c, s, p int) string { return fmt.Sprintf("%s-%d", serviceName(c, s), p) }

func pod(c, s, p int) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace(s), Name: podName(c, s, p),
			Labels: map[string]string{"app": serviceName(c, s), "security.istio.io/tlsMode": "istio"},
		},
		Spec: corev1.PodSpec{
			NodeName: nodeName(p), ServiceAccountName: "default",
			Containers: []corev1.Container{{Name: "app", Image: "app", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: podAddress(s, p).String(),
			PodIPs: []corev1.PodIP{{IP: podAddress(s, p).String()}},
		},
	}
}

// slice holds the first n pods of a service.
func slice(c, s, n int) *discoveryv1.EndpointSlice {
	name := serviceName(c, s)
	port, portName, tcp, ready := int32(8080), "http", corev1.ProtocolTCP, true
	out := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace(s), Name: name + "-1",
			Labels: map[string]string{discoveryv1.LabelServiceName: name},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &portName, Port: &port, Protocol: &tcp}},
	}
	for p := range n {
		node := nodeName(p)
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{podAddress(s, p).String()}, NodeName: &node,
			Conditions: discoveryv1.EndpointConditions{Ready: &ready},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: namespace(s), Name: podName(c, s, p)},
		})
	}
	return out
}

// secret lets the control plane read a cluster.
func secret(c int, kubeconfig []byte) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: controlNamespace, Name: "istio-remote-secret-" + clusterName(c),
			Labels: map[string]string{"istio/multiCluster": "true"},
		},
		Data: map[string][]byte{clusterName(c): kubeconfig},
	}
}
