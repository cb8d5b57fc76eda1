//go:build lab

package stub

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// TestAgainstCluster needs KUBECONFIG to name a cluster with istiocoredns
// installed. It edits the cluster's Corefile and leaves it as it was.
func TestAgainstCluster(t *testing.T) {
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(), nil).ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	text := func() string {
		cm, err := kube.CoreV1().ConfigMaps(dnsNamespace).Get(t.Context(), "coredns", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return cm.Data[corefileKey]
	}
	o := Options{Progress: func(s string) { t.Log(s) }, Timeout: 2 * time.Minute}
	if _, err := Remove(t.Context(), config, o); err != nil {
		t.Fatal(err)
	}
	before := text()

	r, err := Apply(t.Context(), config, o)
	if err != nil || !r.Changed || r.State != "present" || len(r.Lookups) == 0 || !strings.HasPrefix(r.Lookups[0].Answer, "isthmus ") {
		t.Fatalf("Apply: %+v %v", r, err)
	}
	after := text()
	if r, err = Apply(t.Context(), config, o); err != nil || r.Changed || text() != after {
		t.Errorf("a second Apply: %+v %v", r, err)
	}
	if r, err = Show(t.Context(), config, o); err != nil || r.State != "present" {
		t.Errorf("Show: %+v %v", r, err)
	}
	if r, err = Remove(t.Context(), config, o); err != nil || !r.Changed || text() != before {
		t.Errorf("Remove does not give back the old Corefile: %+v %v", r, err)
	}

	nowhere := &corev1.Service{ObjectMeta: metav1.ObjectMeta{GenerateName: "no-dns-", Namespace: "istio-system"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{
		Port:     53,
		Protocol: corev1.ProtocolUDP,
	}}}}
	services := kube.CoreV1().Services("istio-system")
	if nowhere, err = services.Create(t.Context(), nowhere, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = services.Delete(t.Context(), nowhere.Name, metav1.DeleteOptions{}) }()
	o.Zone, o.Service, o.Timeout = "nowhere.example", nowhere.Name, 15*time.Second
	if _, err = Apply(t.Context(), config, o); err == nil || !strings.Contains(err.Error(), "put back") || text() != before {
		t.Errorf("a server that does not answer: %v; the old Corefile is back: %v", err, text() == before)
	}
}
