package kube

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/isthmus-mesh/isthmus/compile"
	"github.com/isthmus-mesh/isthmus/model"
)

// TestNetworksOfPods: the label of a pod's node tells its network, and follows
// the node's.
func TestNetworksOfPods(t *testing.T) {
	c := newCluster(t, shop()...)
	ctx := context.Background()
	relabel := func(network string) {
		node, err := c.kube.CoreV1().Nodes().Get(ctx, "n1", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		node = node.DeepCopy()
		node.Labels[compile.LabelNetwork] = network
		if _, err := c.kube.CoreV1().Nodes().Update(ctx, node, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	relabel("net2")
	c.eventually("the node's network", func(txn model.ReadTxn) bool { return c.endpoints(txn).Endpoints[0].Network == "net2" })

	// A pod on the node's own network has no row of its own.
	pod, err := c.kube.CoreV1().Pods("shop").Get(ctx, "web-1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod = pod.DeepCopy()
	pod.Spec.HostNetwork = true
	if _, err := c.kube.CoreV1().Pods("shop").Update(ctx, pod, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("no row", func(txn model.ReadTxn) bool { return c.store.Workloads.NumObjects(txn) == 0 })
	slice, err := c.kube.DiscoveryV1().EndpointSlices("shop").Get(ctx, "web-x", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	slice = slice.DeepCopy()
	node := "n1"
	slice.Endpoints[0].NodeName = &node
	if _, err := c.kube.DiscoveryV1().EndpointSlices("shop").Update(ctx, slice, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the node's network", func(txn model.ReadTxn) bool { return c.endpoints(txn).Endpoints[0].Network == "net2" })
	relabel("net3")
	c.eventually("its new one", func(txn model.ReadTxn) bool { return c.endpoints(txn).Endpoints[0].Network == "net3" })
}

// TestNetworkOfCluster: the namespace of the control plane names it, and takes it
// back.
func TestNetworkOfCluster(t *testing.T) {
	c := newCluster(t)
	ctx := context.Background()
	network := func(txn model.ReadTxn) string {
		row, _, _ := c.store.Clusters.Get(txn, c.store.Clusters.ByKey("c1"))
		return row.Network
	}
	if row, _, _ := c.store.Clusters.Get(c.store.Read(), c.store.Clusters.ByKey("c1")); row.DefaultNetwork != "net" || row.Network != "" {
		t.Fatalf("%+v", row)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "istio-system", Labels: map[string]string{compile.LabelNetwork: "net9"}}}
	other := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "other", Labels: map[string]string{compile.LabelNetwork: "no"}}}
	for _, n := range []*corev1.Namespace{ns, other} {
		if _, err := c.kube.CoreV1().Namespaces().Create(ctx, n, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	c.eventually("the label", func(txn model.ReadTxn) bool { return c.store.Namespaces.NumObjects(txn) == 2 && network(txn) == "net9" })
	if err := c.kube.CoreV1().Namespaces().Delete(ctx, "istio-system", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("no label", func(txn model.ReadTxn) bool { return network(txn) == "" })
}

// TestEntrancesFollow: the addresses of load balancers and of nodes, as they come
// and go.
func TestEntrancesFollow(t *testing.T) {
	c := newCluster(t, append(shop(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "gw", Labels: map[string]string{compile.LabelNetwork: "net1"},
			Annotations: map[string]string{"traffic.istio.io/nodeSelector": "{}"}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.0.0.9",
			Ports: []corev1.ServicePort{{Port: 15443, NodePort: 31443}},
		},
	})...)
	ctx := context.Background()
	wait := func(what string, port uint16, addresses ...string) {
		t.Helper()
		c.eventually(what, func(txn model.ReadTxn) bool {
			e, _, ok := c.store.Entrances.Get(txn, c.store.Entrances.ByKey(model.EntranceKey("c1", "istio-system", "gw")))
			return ok && slices.Equal(e.Addresses, addresses) && (len(addresses) == 0 || e.Ports[15443] == port)
		})
	}
	node := func(name string, addresses ...string) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		for _, a := range addresses {
			n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
		}
		return n
	}

	wait("a way without an address", 0)
	if _, err := c.kube.CoreV1().Nodes().Update(ctx, node("n1", "172.18.0.2"), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	wait("the node's address", 31443, "172.18.0.2")
	if _, err := c.kube.CoreV1().Nodes().Create(ctx, node("n2", "172.18.0.3"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	wait("both nodes' addresses", 31443, "172.18.0.2", "172.18.0.3")
	if err := c.kube.CoreV1().Nodes().Delete(ctx, "n1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	wait("the address of the node that is left", 31443, "172.18.0.3")

	svc, err := c.kube.CoreV1().Services("istio-system").Get(ctx, "gw", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	svc = svc.DeepCopy()
	svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: "gw.example.com"}}
	if _, err := c.kube.CoreV1().Services("istio-system").UpdateStatus(ctx, svc, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	wait("the load balancer's name", 15443, "gw.example.com")
	if err := c.kube.CoreV1().Services("istio-system").Delete(ctx, "gw", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("no way in", func(txn model.ReadTxn) bool { return c.store.Entrances.NumObjects(txn) == 0 })
}

// TestWrongEntranceIsTold: once, and again when it is another thing.
func TestWrongEntranceIsTold(t *testing.T) {
	store, err := model.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	r, err := NewReader(store, Clients{Kube: fake.NewClientset()}, Config{
		Cluster: "c1", Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, port := range []string{"15443", "x", "x", "y", "15443"} {
		txn := store.Write()
		r.writeEntrance(txn, serviceRef("istio-system", "eastwest"), &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "eastwest", Labels: map[string]string{
				compile.LabelNetwork: "net2", "networking.istio.io/gatewayPort": port,
			}},
			Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 15443}}},
		})
		txn.Commit()
	}
	got := log.String()
	if strings.Count(got, "level=WARN") != 2 || !strings.Contains(got, "service=eastwest") || !strings.Contains(got, `\"y\" is not a port`) {
		t.Errorf("log:\n%s", got)
	}
}
