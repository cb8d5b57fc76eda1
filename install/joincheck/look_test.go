package joincheck

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/install/remotesecret"
	"github.com/isthmus-mesh/isthmus/test/rig/apiserver"
)

// TestLook: what a cluster shows is read, and a Secret is tried.
func TestLook(t *testing.T) {
	server, err := apiserver.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	cfg, err := server.Config("token")
	if err != nil {
		t.Fatal(err)
	}
	meta := func(name string, labels map[string]string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "istio-system", Name: name, Labels: labels}
	}
	own := string(server.Kubeconfig("token"))
	err = server.Apply(
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "istio-system", Labels: map[string]string{labelNetwork: "n1"}}},
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node"}, Spec: corev1.NodeSpec{PodCIDRs: []string{"10.1.0.0/16"}}},
		&corev1.ConfigMap{ObjectMeta: meta("istio", map[string]string{"app": "istiod"}), Data: map[string]string{"mesh": "trustDomain: td", "meshNetworks": "networks: {n1: {}}"}},
		&corev1.ConfigMap{ObjectMeta: meta("istio-sidecar-injector", map[string]string{"app": "istiod"}),
			Data: map[string]string{"values": "global: {network: other, multiCluster: {clusterName: c1}}"}},
		&corev1.Service{ObjectMeta: meta("istio-eastwestgateway", map[string]string{labelNetwork: "n1"}),
			Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "127.0.0.1"}}}}},
		&corev1.Secret{ObjectMeta: meta("istio-remote-secret-c2", map[string]string{remotesecret.Label: "true"}), Data: map[string][]byte{"c2": []byte(own)}},
		&corev1.Secret{ObjectMeta: meta("istio-remote-secret-c3", map[string]string{remotesecret.Label: "true"}), Data: map[string][]byte{"c3": []byte("- no kubeconfig")}},
	)
	if err != nil {
		t.Fatal(err)
	}

	f := Look(t.Context(), "ctx", cfg, "istio-system")
	if f.Unreachable != "" || len(f.Unseen) > 0 {
		t.Fatalf("%q, unseen %q", f.Unreachable, f.Unseen)
	}
	if f.Name != "c1" || f.Network != "n1" || f.TrustDomain != "td" || len(f.Pods) != 1 || f.Skew.Abs() > warnSkew || f.Kubernetes == "" || f.Networks.GetNetworks()["n1"] == nil {
		t.Errorf("the facts are %+v", f)
	}
	if len(f.Gateways) != 1 || len(f.Gateways[0].Silent) != 1 || f.Gateways[0].Addresses[0] != "127.0.0.1:15443" {
		t.Errorf("the gateways are %+v", f.Gateways)
	}
	trouble := map[string]string{}
	for _, s := range f.Secrets {
		trouble[s.Cluster] = s.Trouble
	}
	if trouble["c2"] != "" || !strings.Contains(trouble["c3"], "it is no kubeconfig") || len(trouble) != 2 {
		t.Errorf("the secrets: %q", trouble)
	}

	server.Refuse()
	if f := Look(t.Context(), "ctx", cfg, "istio-system"); !strings.Contains(f.Unreachable, "does not answer, asked from here") {
		t.Errorf("a server that is gone: %+v", f)
	}
}

// TestQuestionsHaveAnOrder: the label of the namespace counts for more than the
// installation, so the network is asked for after it.
func TestQuestionsHaveAnOrder(t *testing.T) {
	for range 20 { // a map would give them in another order now and then
		var about []string
		for _, q := range (&looker{}).questions() {
			about = append(about, q.about)
		}
		if slices.Index(about, "network") < slices.Index(about, "installation") {
			t.Fatalf("asked in the order %q", about)
		}
	}
}
