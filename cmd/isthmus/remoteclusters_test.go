package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/isthmus-mesh/isthmus/kube/clusters"
	"github.com/isthmus-mesh/isthmus/model/dump"
)

func TestPrintClusters(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	seen := []clusterSeen{
		{"istiod-1", clusters.State{Cluster: "cluster1", Status: clusters.Synced, Services: 12, Endpoints: 40}},
		{"istiod-1", clusters.State{
			Cluster: "cluster2", Secret: "istio-remote-secret-cluster2", Status: clusters.Stale, Since: now.Add(-90 * time.Second),
			Reason: "the API server is gone: connection refused", TokenEnds: now.Add(26 * time.Hour), Services: 3, Endpoints: 5, Gateways: 1,
		}},
		{"istiod-1", clusters.State{Secret: "empty", Status: clusters.Refused, Reason: "the Secret has no data", TokenEnds: now.Add(-time.Hour)}},
	}
	var out strings.Builder
	if err := printClusters(&out, seen, now); err != nil {
		t.Fatal(err)
	}
	want := `NAME       SECRET                         STATUS          ISTIOD     TOKEN ENDS     SERVICES   ENDPOINTS   GATEWAYS
cluster1   -                              synced          istiod-1   -              12         40          0
cluster2   istio-remote-secret-cluster2   stale for 90s   istiod-1   in 26h         3          5           1
-          empty                          refused         istiod-1   ended 60m ago  0          0           0

! cluster2 (istiod-1): the API server is gone: connection refused
! empty (istiod-1): the Secret has no data
`
	if got := out.String(); strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(want), " ") {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestFetchStates: what istiod writes is what the command reads.
func TestFetchStates(t *testing.T) {
	state := clusters.State{Cluster: "c", Status: clusters.Synced, TokenEnds: time.Unix(1_800_000_000, 0).UTC()}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/debug/clusterz" {
			http.Error(w, "no such page", http.StatusNotFound)
			return
		}
		dump.JSON(w, []clusters.State{state})
	}))
	defer srv.Close()
	got, err := fetchStates(t.Context(), strings.TrimPrefix(srv.URL, "http://"))
	if err != nil || len(got) != 1 || got[0] != state {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestRunningIstiods(t *testing.T) {
	pod := func(name string, phase corev1.PodPhase) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: name, Labels: map[string]string{"app": "istiod"}},
			Status:     corev1.PodStatus{Phase: phase},
		}
	}
	client := fake.NewClientset(pod("b", corev1.PodRunning), pod("a", corev1.PodRunning), pod("c", corev1.PodPending))
	got, err := runningIstiods(t.Context(), client, "istio-system")
	if err != nil || strings.Join(got, " ") != "a b" {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := runningIstiods(t.Context(), client, "elsewhere"); err == nil || !strings.Contains(err.Error(), "--istioNamespace") {
		t.Errorf("none: %v", err)
	}
}
