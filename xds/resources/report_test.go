package resources

import (
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/model"
)

// TestUnreachedEndpoints: each reason, and none where there is nothing to tell.
func TestUnreachedEndpoints(t *testing.T) {
	for _, tt := range []struct {
		what   string
		change func(m *mesh)
		want   []Unreached
	}{
		{
			what: "one network",
			change: func(m *mesh) {
				insert(m, m.store.Clusters, &model.Cluster{ID: farCluster, Network: "net1"})
			},
		},
		{
			what: "no network",
			change: func(m *mesh) {
				insert(m, m.store.Clusters, &model.Cluster{ID: testCluster}, &model.Cluster{ID: farCluster})
			},
		},
		{
			what: "gateways everywhere",
			change: func(m *mesh) {
				insert(m, m.store.Entrances, gatewayTo("net1", "a", "192.0.2.1"), gatewayTo("net2", "b", "192.0.2.2"))
			},
		},
		{
			what:   "a gateway without an address, and none",
			change: func(m *mesh) { insert(m, m.store.Entrances, gatewayTo("net2", "b", "unresolved.example.com")) },
			want: []Unreached{
				{Network: "net1", Cluster: testCluster, Reason: NoGateway, Endpoints: 2},
				{Network: "net2", Cluster: farCluster, Reason: NoAddress, Endpoints: 3},
			},
		},
		{
			what: "endpoints without a sidecar, and gateways' pods",
			change: func(m *mesh) {
				insert(m, m.store.Entrances, gatewayTo("net1", "a", "192.0.2.1"), gatewayTo("net2", "b", "192.0.2.2"))
				m.webEndpointsWith(farCluster, func(e *model.Endpoint) { e.TLS, e.Router = false, e.Address == "10.2.0.2" }, "10.2.0.1", "10.2.0.2")
			},
			want: []Unreached{{Network: "net2", Cluster: farCluster, Reason: NoMutualTLS, Endpoints: 1}},
		},
		{
			what: "a cluster whose network nobody names",
			change: func(m *mesh) {
				insert(m, m.store.Clusters, &model.Cluster{ID: farCluster})
				insert(m, m.store.Entrances, gatewayTo("net1", "a", "192.0.2.1"))
			},
			want: []Unreached{{Cluster: farCluster, Reason: NoNetwork, Endpoints: 3}},
		},
		{
			what: "services that stay at home",
			change: func(m *mesh) {
				mc := model.DefaultMesh(testCluster)
				mc.HostSettings = append(mc.HostSettings, model.HostSetting{Pattern: "*", ClusterLocal: true})
				insert(m, m.store.Meshes, mc)
			},
		},
		{
			what: "a pod behind two services",
			change: func(m *mesh) {
				insert(m, m.store.Entrances, gatewayTo("net1", "a", "192.0.2.1"))
				again := webIn(farCluster)
				again.Name, again.Host = "again", "again.shop.svc.cluster.local"
				insert(m, m.store.Services, again)
				m.endpoints(again, "10.2.0.1")
			},
			want: []Unreached{{Network: "net2", Cluster: farCluster, Reason: NoGateway, Endpoints: 3}},
		},
	} {
		m := twoNetworks(t)
		tt.change(m)
		if got := m.source.Report().Unreached; !slices.Equal(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.what, got, tt.want)
		}
	}
}

// TestConflicts: what clusters say differently of a service.
func TestConflicts(t *testing.T) {
	m := pairOfClusters(t, "", "")
	same := service("shop", "same", "10.96.0.1", port("a", 80, model.HTTP, 80), port("b", 81, model.TCP, 81))
	ports := service("shop", "ports", "10.96.0.2", port("a", 80, model.HTTP, 80))
	kind := service("shop", "kind", "", port("a", 80, model.HTTP, 80))
	alias := service("shop", "alias", "10.96.0.4", port("a", 80, model.HTTP, 80))
	system := service("kube-system", "kube-dns", "", port("a", 80, model.HTTP, 80))
	elsewhere := far(alias)
	elsewhere.Alias = "example.com"
	insert(m, m.store.Services, same, ports, kind, alias, system,
		far(service("shop", "same", "10.97.0.1", port("other", 80, model.HTTP, 8080))),
		far(service("shop", "ports", "10.97.0.1", port("a", 80, model.GRPC, 80))),
		far(service("shop", "kind", "10.97.0.1", port("a", 80, model.HTTP, 80))),
		far(service("kube-system", "kube-dns", "10.97.0.1", port("a", 80, model.HTTP, 80))),
		elsewhere)
	want := []Conflict{
		{alias.Host, `it is a service with an address in cluster "c1" and another name for example.com in cluster "c2"`},
		{kind.Host, `it is headless in cluster "c1" and a service with an address in cluster "c2"`},
		{ports.Host, `its port 80 speaks HTTP in cluster "c1" and GRPC in cluster "c2"`},
	}
	if got := m.source.Report().Conflicts; !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestTellsOnce: each thing, and again when it has been over. A number that changes
// is no other thing.
func TestTellsOnce(t *testing.T) {
	var log strings.Builder
	teller := teller{log: slog.New(slog.NewTextHandler(&log, nil)), told: map[string]bool{}}
	lines := func(r *Report) int {
		log.Reset()
		teller.tell(r)
		return strings.Count(log.String(), "\n")
	}
	one := &Report{
		Unreached: []Unreached{{Network: "net2", Cluster: "c2", Reason: NoGateway, Endpoints: 3}},
		Conflicts: []Conflict{{Host: "web", Problem: "differs"}},
	}
	more := &Report{Unreached: []Unreached{{Network: "net2", Cluster: "c2", Reason: NoGateway, Endpoints: 4}}, Conflicts: one.Conflicts}
	for i, step := range []struct {
		report *Report
		want   int
	}{{&Report{}, 0}, {one, 2}, {more, 0}, {&Report{}, 0}, {one, 2}} {
		if got := lines(step.report); got != step.want {
			t.Errorf("step %d: %d lines, want %d:\n%s", i, got, step.want, log.String())
		}
	}
	many := &Report{}
	for i := range 100 {
		many.Conflicts = append(many.Conflicts, Conflict{Host: strings.Repeat("x", i), Problem: "differs"})
	}
	if got := lines(many); got != maxTold+1 || !strings.Contains(log.String(), "more=80") {
		t.Errorf("%d lines:\n%s", got, log.String())
	}
	for _, reason := range Reasons() {
		if text := (Unreached{Network: "net2", Cluster: "c2", Reason: reason}).String(); !strings.Contains(text, `cluster "c2"`) {
			t.Errorf("%s: %s", reason, text)
		}
	}
}
