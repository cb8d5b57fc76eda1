package discovery

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/kube/clusters"
	"github.com/isthmus-mesh/isthmus/test/rig/apiserver"
)

func remoteSecret(cluster string, kubeconfig []byte) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "istio-system", Name: "istio-remote-secret-" + cluster,
			Labels: map[string]string{clusters.LabelSecret: "true"},
		},
		Data: map[string][]byte{cluster: kubeconfig},
	}
}

// TestRemoteClusters: what another cluster has reaches the proxies of this one,
// one that is gone does not hold back the start, and both are told of.
func TestRemoteClusters(t *testing.T) {
	far, err := apiserver.Start(webService("far"))
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	gone, err := apiserver.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close()
	gone.Hang()

	began := time.Now()
	c := startControlPlane(t, webService("web"),
		remoteSecret("cluster2", far.Kubeconfig("")), remoteSecret("cluster3", gone.Kubeconfig("")))
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("ready after %s", took)
	}
	got := c.proxy()
	c.eventually("the clusters of web and far", func() bool {
		return got.has("outbound|80||web.shop.svc.cluster.local") && got.has("outbound|80||far.shop.svc.cluster.local")
	})

	code, page := c.get(c.at.Monitoring, "/debug/clusterz")
	var states []clusters.State
	if err := json.Unmarshal([]byte(page), &states); code != http.StatusOK || err != nil || len(states) != 3 {
		t.Fatalf("%d %v\n%s", code, err, page)
	}
	for i, want := range []clusters.State{
		{Cluster: "Kubernetes", Status: clusters.Synced, Services: 1},
		{Cluster: "cluster2", Status: clusters.Synced, Services: 1, Secret: "istio-remote-secret-cluster2"},
		{Cluster: "cluster3", Status: clusters.Stale, Secret: "istio-remote-secret-cluster3"},
	} {
		s := states[i]
		if s.Cluster != want.Cluster || s.Status != want.Status || s.Services != want.Services || s.Secret != want.Secret {
			t.Errorf("got %+v, want %+v", s, want)
		}
	}
	c.eventually("the metric", func() bool {
		_, page := c.get(c.at.Monitoring, "/metrics")
		return contains(page, `isthmus_clusters{status="synced"} 2`, `isthmus_clusters{status="stale"} 1`)
	})
}

func contains(text string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return false
		}
	}
	return true
}
