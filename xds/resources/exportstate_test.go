package resources

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
)

// said is a condition in one line.
func said(c model.Condition) string {
	out := c.Type + "=False"
	if c.Holds {
		out = c.Type + "=True"
	}
	if c.Unsure {
		out += "?"
	}
	return strings.TrimSpace(out + " " + c.Reason + " " + c.Message)
}

// stateOf is what is said of an export of shop, a line for each condition.
func (m *mesh) stateOf(c model.ClusterID, name string) []string {
	m.t.Helper()
	states, _ := m.source.ExportStates()
	for _, s := range states {
		if s.Cluster != c || s.Namespace != "shop" || s.Name != name {
			continue
		}
		if s.UID != string(c)+"-"+name || s.Generation != 1 {
			m.t.Errorf("it is said of %s, generation %d", s.UID, s.Generation)
		}
		var out []string
		for _, condition := range s.Conditions {
			out = append(out, said(condition))
		}
		return out
	}
	return nil
}

// TestExportStates: of one export alone, whatever there is behind it.
func TestExportStates(t *testing.T) {
	tcp := model.ServicePort{Name: "http", Number: 80, Transport: "TCP"}
	udp := model.ServicePort{Name: "dns", Number: 53, Transport: "UDP"}
	for _, tt := range []struct {
		name, service string
		offer         *model.Offer
		valid, ready  string
	}{
		{
			name: "a Service", service: "web", offer: &model.Offer{Ports: []model.ServicePort{tcp}},
			valid: "Valid=True Valid", ready: "Ready=True Exported clients reach it as " + webSet,
		},
		{
			name: "more than the mesh carries", service: "web",
			offer: &model.Offer{Ports: []model.ServicePort{tcp, udp}, Affinity: model.Affinity{ByClientIP: true}},
			valid: "Valid=True Valid",
			ready: "Ready=True Exported clients reach it as " + webSet + "; the mesh carries TCP alone, and not 53/UDP; the mesh does not honour sessionAffinity",
		},
		{
			name: "nothing that the mesh carries", service: "dns", offer: &model.Offer{Ports: []model.ServicePort{udp}},
			valid: "Valid=True Valid", ready: "Ready=False Failed the mesh carries TCP alone, and the Service has no TCP port",
		},
		{
			name: "a namespace that is not read", service: "far", offer: &model.Offer{Ports: []model.ServicePort{tcp}},
			valid: "Valid=True Valid",
			ready: "Ready=False Failed the mesh does not read the Service: discoverySelectors of the mesh configuration leave its namespace out",
		},
		{
			name: "no Service", service: "none",
			valid: "Valid=False NoService this cluster has no Service of this name in this namespace",
			ready: "Ready=False Failed this cluster has no Service of this name in this namespace",
		},
		{
			name: "a name for something else", service: "name", offer: &model.Offer{Alias: true},
			valid: "Valid=False InvalidServiceType the Service is of type ExternalName, a name for something elsewhere: make it in each cluster instead",
			ready: "Ready=False Failed the Service is of type ExternalName, a name for something elsewhere: make it in each cluster instead",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := homebody(t)
			m.offer(testCluster, tt.service, 1, tt.offer)
			want := []string{tt.valid, tt.ready, "Conflict=False NoConflicts"}
			if got := m.stateOf(testCluster, tt.service); !slices.Equal(got, want) {
				t.Errorf("it is said\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// TestExportConflicts: both sides are told which decides, and in what they differ.
func TestExportConflicts(t *testing.T) {
	web := func(ports ...model.ServicePort) *model.Offer { return &model.Offer{Ports: ports} }
	http := model.ServicePort{Name: "http", Number: 80, Transport: "TCP"}
	other := func(change func(p *model.ServicePort)) model.ServicePort {
		p := http
		change(&p)
		return p
	}
	sticky := func(seconds int32) *model.Offer {
		return &model.Offer{Ports: web(http).Ports, Affinity: model.Affinity{ByClientIP: true, Timeout: seconds}}
	}
	for _, tt := range []struct {
		name       string
		here       *model.Offer
		there      *model.Offer
		want       string
		thereOlder bool
	}{
		{name: "the same", here: web(http), there: web(http), want: "False NoConflicts"},
		{name: "the same in another order", here: web(http, other(func(p *model.ServicePort) { p.Name, p.Number = "b", 81 })),
			there: web(other(func(p *model.ServicePort) { p.Name, p.Number = "b", 81 }), http), want: "False NoConflicts"},
		{
			name: "a port of another number", here: web(http), there: web(other(func(p *model.ServicePort) { p.Number = 81 })),
			want: `True PortConflict the oldest export decides, that of cluster "c1": its port "http", 80/TCP, in cluster "c1" is "http", 81/TCP, in cluster "c2"`,
		},
		{
			name: "the other is older", here: web(http), there: web(other(func(p *model.ServicePort) { p.Number = 81 })), thereOlder: true,
			want: `True PortConflict the oldest export decides, that of cluster "c2": its port "http", 81/TCP, in cluster "c2" is "http", 80/TCP, in cluster "c1"`,
		},
		{
			name: "a port by another name", here: web(http), there: web(other(func(p *model.ServicePort) { p.Name = "" })),
			want: `True PortConflict the oldest export decides, that of cluster "c1": its port "http", 80/TCP, in cluster "c1" is 80/TCP in cluster "c2"`,
		},
		{
			name: "another protocol", here: web(http), there: web(other(func(p *model.ServicePort) { p.AppProtocol = "tcp" })),
			want: `True PortConflict the oldest export decides, that of cluster "c1": its port "http", 80/TCP, in cluster "c1" is "http", 80/TCP (tcp), in cluster "c2"`,
		},
		{
			name: "a port more", here: web(http), there: web(http, model.ServicePort{Name: "dns", Number: 53, Transport: "UDP"}),
			want: `True PortConflict the oldest export decides, that of cluster "c1": its port "dns", 53/UDP, is in cluster "c2" alone`,
		},
		{
			name: "headless", here: web(http), there: &model.Offer{Headless: true, Ports: web(http).Ports},
			want: `True TypeConflict the oldest export decides, that of cluster "c1": it is a service with an address in cluster "c1" and headless in cluster "c2"`,
		},
		{
			name: "affinity", here: web(http), there: sticky(10),
			want: `True SessionAffinityConflict the oldest export decides, that of cluster "c1": its sessionAffinity is None in cluster "c1" and ClientIP in cluster "c2"`,
		},
		{
			name: "how long it lasts", here: sticky(20), there: sticky(10),
			want: `True SessionAffinityConfigConflict the oldest export decides, that of cluster "c1": its sessionAffinity lasts 20 s in cluster "c1" and 10 s in cluster "c2"`,
		},
		{
			name: "two things", here: web(http), there: &model.Offer{Headless: true, Ports: web(http).Ports, Affinity: model.Affinity{ByClientIP: true}},
			want: `True TypeConflict,SessionAffinityConflict the oldest export decides, that of cluster "c1": it is a service with an address in cluster "c1" and headless in cluster "c2"; its sessionAffinity is None in cluster "c1" and ClientIP in cluster "c2"`,
		},
		{name: "one that exports nothing", here: web(http), there: nil, want: "False NoConflicts"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := homebody(t)
			m.offer(testCluster, "web", 5, tt.here)
			since := int64(9)
			if tt.thereOlder {
				since = 1
			}
			m.offer(farCluster, "web", since, tt.there)
			for _, c := range []model.ClusterID{testCluster, farCluster} {
				got := m.stateOf(c, "web")
				if len(got) != 3 || got[2] != "Conflict="+tt.want {
					t.Errorf("in %s it is said\n%s\nwant\nConflict=%s", c, strings.Join(got, "\n"), tt.want)
				}
			}
		})
	}
}

// TestExportConflictsOfPolicies: what the mesh knows of the Services' rows.
func TestExportConflictsOfPolicies(t *testing.T) {
	m := homebody(t)
	txn := m.store.Write()
	row, _, _ := m.store.Services.Get(txn, m.store.Services.ByKey(far(service("shop", "web", "")).Key()))
	changed := *row
	changed.NodeLocal, changed.Distribution = true, model.PreferZone
	m.store.Services.Put(txn, &changed)
	txn.Commit()
	m.export(testCluster, "web", 1)
	m.export(farCluster, "web", 2)

	const want = `Conflict=True InternalTrafficPolicyConflict,TrafficDistributionConflict the oldest export decides, that of cluster "c1": ` +
		`its internalTrafficPolicy is Cluster in cluster "c1" and Local in cluster "c2"; its trafficDistribution is not given in cluster "c1" and PreferSameZone in cluster "c2"`
	if got := m.stateOf(farCluster, "web"); len(got) != 3 || got[2] != want {
		t.Errorf("it is said\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
}

// TestNoConflictIsNotSaidTooEarly: who knows of one cluster, or has yet to read
// another, cannot tell; but what it sees, it says.
func TestNoConflictIsNotSaidTooEarly(t *testing.T) {
	s := newScene(t, "")
	s.export(testCluster, "web", 1)
	if got := s.stateOf(testCluster, "web"); len(got) != 3 || got[2] != "Conflict=False? NoConflicts" {
		t.Errorf("of one cluster it is said %q", got)
	}

	m := homebody(t)
	insert(m, m.store.Clusters, &model.Cluster{ID: "c3"})
	m.export(testCluster, "web", 1)
	if got := m.stateOf(testCluster, "web"); len(got) != 3 || got[2] != "Conflict=False? NoConflicts" {
		t.Errorf("with a cluster unread it is said %q", got)
	}
	m.offer(farCluster, "web", 2, &model.Offer{Headless: true})
	if got := m.stateOf(testCluster, "web"); len(got) != 3 || !strings.HasPrefix(got[2], "Conflict=True PortConflict") && !strings.HasPrefix(got[2], "Conflict=True TypeConflict") {
		t.Errorf("of a conflict it is said %q", got)
	}
}

// TestNothingIsSaidToWhoIsAway: a cluster whose API server does not answer.
func TestNothingIsSaidToWhoIsAway(t *testing.T) {
	m := homebody(t)
	m.export(testCluster, "web", 1)
	m.export(farCluster, "web", 1)
	_, changed := m.source.ExportStates()
	m.store.ChangeCluster(farCluster, func(c *model.Cluster) { c.Stale, c.Since = true, time.Unix(9, 0) })
	waitFor(t, changed)
	if got := m.stateOf(farCluster, "web"); got != nil {
		t.Errorf("it is said %q", got)
	}
	if got := m.stateOf(testCluster, "web"); got == nil {
		t.Error("nothing is said in the own cluster")
	}
}

// TestExportedPortsAreOneList: where two have a name or a number in common, the
// oldest export's counts, in what clients reach and in what they are told.
func TestExportedPortsAreOneList(t *testing.T) {
	m := pairOfClusters(t, "", "")
	here := service("shop", "web", "10.96.0.10", port("a", 80, model.HTTP, 8080), port("here", 81, model.TCP, 8081))
	there := far(service("shop", "web", "10.96.0.11", port("a", 90, model.HTTP, 8080), port("b", 81, model.TCP, 8081), port("c", 82, model.TCP, 8082)))
	insert(m, m.store.Services, here, there)
	insert(m, m.store.Namespaces, &model.Namespace{Cluster: testCluster, Name: "shop"})
	tcp := func(name string, number uint16) model.ServicePort {
		return model.ServicePort{Name: name, Number: number, Transport: "TCP"}
	}
	udp := model.ServicePort{Name: "udp", Number: 80, Transport: "UDP"}
	m.offer(testCluster, "web", 1, &model.Offer{Ports: []model.ServicePort{tcp("a", 80), tcp("here", 81)}, Affinity: model.Affinity{ByClientIP: true}})
	m.offer(farCluster, "web", 2, &model.Offer{Ports: []model.ServicePort{tcp("a", 90), tcp("b", 81), tcp("c", 82), udp}})

	got, _ := m.source.Imports()
	want := []model.ServicePort{tcp("a", 80), udp, tcp("here", 81), tcp("c", 82)}
	if len(got.List) != 1 || !slices.Equal(got.List[0].Ports, want) || !got.List[0].Affinity.ByClientIP {
		t.Errorf("the import is %+v, want ports %v", got.List, want)
	}

	var reached []string
	for _, name := range m.names(m.view(clientIn(testCluster)), xds.TypeCluster) {
		if ports, ok := strings.CutSuffix(name, "||"+webSet); ok {
			reached = append(reached, ports)
		}
	}
	slices.Sort(reached)
	if want := []string{"outbound|80", "outbound|81", "outbound|82"}; !slices.Equal(reached, want) {
		t.Errorf("clients reach %v, want %v", reached, want)
	}
}
