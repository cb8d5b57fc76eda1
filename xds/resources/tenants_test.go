package resources

import (
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// decoded is a resource's message.
func decoded[T proto.Message](t *testing.T, r *serve.Resource) T {
	t.Helper()
	if r == nil {
		t.Fatal("there is no such resource")
	}
	m, err := r.Body.UnmarshalNew()
	if err != nil {
		t.Fatal(err)
	}
	return m.(T)
}

// clusterOf is the cluster that proxies of a namespace have.
func (m *mesh) clusterOf(t *testing.T, namespace, name string) *clusterv3.Cluster {
	t.Helper()
	v := m.view(node("sidecar", namespace, "a-1", nil))
	return decoded[*clusterv3.Cluster](t, m.resources(v, xds.TypeCluster, name)[name])
}

// serverNamesOf are the names that a cluster accepts of its servers; nil when it does
// not speak TLS.
func serverNamesOf(t *testing.T, c *clusterv3.Cluster) []string {
	t.Helper()
	if c.TransportSocket == nil {
		return nil
	}
	tls := &tlsv3.UpstreamTlsContext{}
	if err := c.TransportSocket.GetTypedConfig().UnmarshalTo(tls); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range tls.CommonTlsContext.GetCombinedValidationContext().DefaultValidationContext.MatchTypedSubjectAltNames {
		if prefix := m.Matcher.GetPrefix(); prefix != "" {
			out = append(out, prefix+"*")
			continue
		}
		out = append(out, m.Matcher.GetExact())
	}
	return out
}

// remoteEntry is another cluster's service, declared by some namespace.
func remoteEntry(namespace string) *model.Service {
	return &model.Service{
		Host: "payments.prod.global", Cluster: testCluster, Namespace: namespace, Name: "remote",
		Origin: model.FromServiceEntry, Resolution: model.ByDNS,
		Ports:    []model.Port{port("http", 80, model.HTTP, 80)},
		Resolved: []model.Endpoint{{Address: "203.0.113.66", Ports: map[string]uint16{"http": 15443}}},
	}
}

// TestRemoteNamesProveTheirNamespace: whoever declares NAME.NAMESPACE.global,
// and whatever is said of its identity, a certificate of NAMESPACE answers.
func TestRemoteNamesProveTheirNamespace(t *testing.T) {
	const name = "outbound|80||payments.prod.global"
	rule := func(namespace string, tls *model.ClientTLS) *model.DestinationRule {
		return &model.DestinationRule{
			Cluster: testCluster, Namespace: namespace, Name: "rule", Host: "payments.prod.global",
			Policy: model.TrafficPolicy{TLS: tls},
		}
	}
	for what, c := range map[string]struct {
		change func(*model.Service)
		rule   *model.DestinationRule
		want   []string
	}{
		"nothing said": {
			want: []string{"spiffe://cluster.local/ns/prod/*", "spiffe://old.example/ns/prod/*"},
		},
		"an entry that calls it external": {
			change: func(s *model.Service) { s.External = true },
			want:   []string{"spiffe://cluster.local/ns/prod/*", "spiffe://old.example/ns/prod/*"},
		},
		"an entry that names itself": {
			change: func(s *model.Service) { s.SubjectAltNames = []string{"spiffe://cluster.local/ns/tenant/sa/evil"} },
			want:   []string{"spiffe://none/ns/prod/sa/"},
		},
		"an entry that names the service": {
			change: func(s *model.Service) { s.SubjectAltNames = []string{"spiffe://cluster.local/ns/prod/sa/payments"} },
			want:   []string{"spiffe://cluster.local/ns/prod/sa/payments"},
		},
		"a rule beside the entry that turns TLS off": {
			rule: rule("tenant", &model.ClientTLS{Mode: model.ClientTLSDisable}),
			want: []string{"spiffe://cluster.local/ns/prod/*", "spiffe://old.example/ns/prod/*"},
		},
		"a rule of the client's that names the service": {
			rule: rule("shop", &model.ClientTLS{Mode: model.ClientTLSMutualMesh, SubjectAltNames: []string{"spiffe://other.example/ns/prod/sa/payments"}}),
			want: []string{"spiffe://other.example/ns/prod/sa/payments"},
		},
		"a rule of the client's that names another": {
			rule: rule("shop", &model.ClientTLS{Mode: model.ClientTLSMutualMesh, SubjectAltNames: []string{"spiffe://cluster.local/ns/tenant/sa/evil"}}),
			want: []string{"spiffe://none/ns/prod/sa/"},
		},
		"a rule of the client's that turns TLS off": {
			rule: rule("shop", &model.ClientTLS{Mode: model.ClientTLSDisable}),
		},
	} {
		t.Run(what, func(t *testing.T) {
			m := newMesh(t)
			row := model.DefaultMesh(testCluster)
			row.TrustDomainAliases = []string{"old.example"}
			insert(m, m.store.Meshes, row)
			entry := remoteEntry("tenant")
			if c.change != nil {
				c.change(entry)
			}
			insert(m, m.store.Services, entry)
			if c.rule != nil {
				insert(m, m.store.Destinations, c.rule)
			}
			if got := serverNamesOf(t, m.clusterOf(t, "shop", name)); !slices.Equal(got, c.want) {
				t.Errorf("accepts %q, want %q", got, c.want)
			}
		})
	}
}

// TestTenantRuleReachesOnlyItsClients: a DestinationRule for another namespace's
// service counts for the clients of its own namespace.
func TestTenantRuleReachesOnlyItsClients(t *testing.T) {
	m := newMesh(t)
	payments := service("prod", "payments", "10.96.0.10", port("http", 80, model.HTTP, 8080))
	insert(m, m.store.Services, payments)
	m.endpoints(payments, "10.0.0.1")
	insert(m, m.store.Destinations, &model.DestinationRule{
		Cluster: testCluster, Namespace: "tenant", Name: "x", Host: payments.Host,
		Policy: model.TrafficPolicy{TLS: &model.ClientTLS{Mode: model.ClientTLSDisable}},
	})
	for namespace, mutual := range map[string]bool{"shop": true, "prod": true, "tenant": false} {
		c := m.clusterOf(t, namespace, "outbound|80||"+payments.Host)
		if (len(c.TransportSocketMatches) > 0) != mutual {
			t.Errorf("clients of %s: mutual TLS %t, want %t", namespace, !mutual, mutual)
		}
	}
}

// TestNamesakeEntryAddsNothing: an older entry of another namespace adds neither
// endpoints nor ports to a service of its name.
func TestNamesakeEntryAddsNothing(t *testing.T) {
	m := newMesh(t)
	payments := service("prod", "payments", "10.96.0.10", port("http", 80, model.HTTP, 8080))
	payments.Created = time.Now()
	insert(m, m.store.Services, payments)
	m.endpoints(payments, "10.0.0.1")
	evil := &model.Service{
		Host: payments.Host, Cluster: testCluster, Namespace: "tenant", Name: "evil",
		Origin: model.FromServiceEntry, Created: time.Now().Add(-time.Hour),
		Ports: []model.Port{port("http", 80, model.HTTP, 80), port("x", 8080, model.HTTP, 80)},
	}
	insert(m, m.store.Services, evil)
	insert(m, m.store.Endpoints, &model.EndpointSet{Host: evil.Host, Cluster: testCluster, Namespace: "tenant", Name: "evil",
		Endpoints: []model.Endpoint{{Address: "203.0.113.66", Ports: map[string]uint16{"http": 80, "x": 80}}}})
	v := m.view(node("sidecar", "shop", "web-1", nil))
	eds := "outbound|80||" + payments.Host
	if got := m.resources(v, xds.TypeEndpoint, eds)[eds]; got == nil || strings.Contains(string(got.Body.Value), "203.0.113.66") {
		t.Errorf("endpoints: %v", got)
	}
	if got := m.resources(v, xds.TypeCluster, "outbound|8080||"+payments.Host); len(got) > 0 {
		t.Errorf("clusters: %v", got)
	}
}

// TestPassthroughIsOpenedByOwners: a Gateway opens services of every namespace
// only in the gateway's own namespace or the root; "./" and "NAMESPACE/" keep it
// to one; and no server takes a port that the proxy keeps.
func TestPassthroughIsOpenedByOwners(t *testing.T) {
	const (
		web = "outbound_.80_._.web.shop.svc.cluster.local"
		db  = "outbound_.5432_._.db.data.svc.cluster.local"
	)
	for what, c := range map[string]struct {
		namespace string
		pods      string // the namespace of the gateway's pods
		port      uint16
		hosts     []string
		want      []string
	}{
		"the root namespace": {
			namespace: "istio-system", pods: "edge", port: 15443, hosts: []string{"*.local"},
			want: []string{db, web},
		},
		"the pods' own": {
			namespace: "edge", pods: "edge", port: 15443, hosts: []string{"*.local"},
			want: []string{db, web},
		},
		"a tenant's": {
			namespace: "tenant", pods: "istio-system", port: 15443, hosts: []string{"*"},
		},
		"one namespace's services": {
			namespace: "istio-system", pods: "istio-system", port: 15443, hosts: []string{"shop/*.local"},
			want: []string{web},
		},
		"its own services, of which there are none": {
			namespace: "istio-system", pods: "istio-system", port: 15443, hosts: []string{"istio-system/*.local"},
		},
		"the proxy's own port": {
			namespace: "istio-system", pods: "istio-system", port: 15021, hosts: []string{"*.local"},
		},
	} {
		t.Run(what, func(t *testing.T) {
			m := newMesh(t)
			for _, s := range []*model.Service{
				service("shop", "web", "10.96.0.10", port("http", 80, model.HTTP, 8080)),
				service("data", "db", "10.96.0.12", port("tcp", 5432, model.TCP, 5432)),
			} {
				insert(m, m.store.Services, s)
				m.endpoints(s, "10.0.0.1")
			}
			insert(m, m.store.Gateways, &model.Gateway{
				Cluster: testCluster, Namespace: c.namespace, Name: "g",
				Selector: map[string]string{"istio": "ingressgateway"},
				Servers:  []model.GatewayServer{{Port: c.port, Hosts: c.hosts}},
			})
			v := m.view(node("router", c.pods, "gw-1", map[string]string{"istio": "ingressgateway"}))
			var got []string
			for name := range m.resources(v, xds.TypeCluster) {
				if strings.HasPrefix(name, "outbound_") {
					got = append(got, name)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("clusters %q, want %q", got, c.want)
			}
			for name, l := range m.resources(v, xds.TypeListener) {
				match := decoded[*listenerv3.Listener](t, l).FilterChains[0].FilterChainMatch
				if c.port == 15021 || slices.ContainsFunc(match.ServerNames, func(n string) bool { return strings.Contains(n, "/") }) {
					t.Errorf("listener %s: %v", name, match)
				}
			}
		})
	}
}

// TestRulesOfOneHostCountAsOne: the later of two DestinationRules adds its
// subsets, and its traffic policy where the first has none.
func TestRulesOfOneHostCountAsOne(t *testing.T) {
	m := newMesh(t)
	web := service("shop", "web", "10.96.0.10", port("http", 80, model.HTTP, 8080))
	insert(m, m.store.Services, web)
	m.endpoints(web, "10.0.0.1", "10.0.0.2")
	now := time.Now()
	insert(m, m.store.Destinations, &model.DestinationRule{
		Cluster: testCluster, Namespace: "shop", Name: "web", Host: web.Host, Created: now,
		Subsets: []model.Subset{{Name: "v1", Labels: map[string]string{"version": "v1"}}},
	}, &model.DestinationRule{
		Cluster: testCluster, Namespace: "shop", Name: "web-2", Host: web.Host, Created: now.Add(time.Second),
		Policy:  model.TrafficPolicy{LoadBalancing: model.LBRoundRobin},
		Subsets: []model.Subset{{Name: "v2", Labels: map[string]string{"version": "v2"}}},
	})
	for _, subset := range []string{"", "v1", "v2"} {
		c := m.clusterOf(t, "shop", "outbound|80|"+subset+"|"+web.Host)
		if c.LbPolicy != clusterv3.Cluster_ROUND_ROBIN {
			t.Errorf("subset %q: %s", subset, c.LbPolicy)
		}
	}
}

// TestEntriesOfOneHostJoin: two entries of a namespace give one host all their
// endpoints, also when they call the port differently.
func TestEntriesOfOneHostJoin(t *testing.T) {
	m := newMesh(t)
	for i, name := range []string{"http", "web"} {
		e := &model.Service{
			Host: "api.example.com", Cluster: testCluster, Namespace: "client", Name: name,
			Origin: model.FromServiceEntry, Created: time.Now().Add(time.Duration(i) * time.Second),
			Ports: []model.Port{port(name, 80, model.HTTP, 80)},
		}
		insert(m, m.store.Services, e)
		insert(m, m.store.Endpoints, &model.EndpointSet{Host: e.Host, Cluster: testCluster, Namespace: "client", Name: name,
			Endpoints: []model.Endpoint{{Address: "10.9.0." + utoa(uint16(i+1)), Ports: map[string]uint16{name: 80}}}})
	}
	v := m.view(node("sidecar", "client", "a-1", nil))
	const eds = "outbound|80||api.example.com"
	got := string(m.resources(v, xds.TypeEndpoint, eds)[eds].Body.Value)
	if !strings.Contains(got, "10.9.0.1") || !strings.Contains(got, "10.9.0.2") {
		t.Errorf("endpoints: %q", got)
	}
}

// TestEntryJoinsItsService: an entry for a Service's own name, where it may
// declare it, adds endpoints and ports.
func TestEntryJoinsItsService(t *testing.T) {
	m := newMesh(t)
	web := service("shop", "web", "10.96.0.10", port("http", 80, model.HTTP, 8080))
	insert(m, m.store.Services, web)
	m.endpoints(web, "10.0.0.1")
	insert(m, m.store.Services, &model.Service{
		Host: web.Host, Cluster: testCluster, Namespace: "shop", Name: "elsewhere",
		Origin: model.FromServiceEntry, JoinsService: true, Resolution: model.ByDNS,
		Ports: []model.Port{port("http1", 80, model.HTTP, 80), port("tcp-extra", 8443, model.TCP, 8443)},
		Resolved: []model.Endpoint{
			{Address: "10.9.0.1", Ports: map[string]uint16{"http1": 15443, "tcp-extra": 15443}},
			{Address: "gw.example", Ports: map[string]uint16{"http1": 15443, "tcp-extra": 15443}},
		},
	})
	v := m.view(node("sidecar", "client", "a-1", nil))
	eds := "outbound|80||" + web.Host
	got := string(m.resources(v, xds.TypeEndpoint, eds)[eds].Body.Value)
	if !strings.Contains(got, "10.0.0.1") || !strings.Contains(got, "10.9.0.1") || strings.Contains(got, "gw.example") {
		t.Errorf("endpoints: %q", got)
	}
	if l := m.resources(v, xds.TypeListener)["10.96.0.10_8443"]; l == nil {
		t.Error("the added port has no listener at the Service's address")
	}
}

// TestTenantTakesNoMeshConnections: connections of the mesh go by the longest server name
// and then by the protocol. A tenant's Gateway that has a longer name for them beside the
// mesh's own takes those of strangers, and no more.
func TestTenantTakesNoMeshConnections(t *testing.T) {
	const (
		opens = `{port: {number: 443, name: mesh, protocol: TLS}, tls: {mode: AUTO_PASSTHROUGH}, hosts: [HOSTS]}`
		route = `route: [{destination: {host: web.shop.svc.cluster.local, port: {number: 80}}}]`
	)
	for name, c := range map[string]struct {
		mesh, namespace, hosts, asked string
		want                          []string // names of chains that take the mesh's protocol
	}{
		"a wildcard within the mesh's": {
			mesh: `"*.local"`, namespace: "evil", hosts: `"*.shop.svc.cluster.local"`, asked: `"*.shop.svc.cluster.local"`,
			want: []string{"*.local", "*.shop.svc.cluster.local"},
		},
		"a route with a longer name than its server": {
			mesh: `"*.local"`, namespace: "evil", hosts: `"*.svc.cluster.local"`, asked: `"*.shop.svc.cluster.local"`,
			want: []string{"*.local", "*.shop.svc.cluster.local"},
		},
		"every name is the mesh's": {
			mesh: `"*"`, namespace: "evil", hosts: `"*.shop.svc.cluster.local"`, asked: `"*.shop.svc.cluster.local"`,
			want: []string{"", "*.shop.svc.cluster.local"},
		},
		"a name that the mesh does not ask for": {
			mesh: `"*.local"`, namespace: "team", hosts: "shop.local", asked: "shop.local",
			want: []string{"*.local"},
		},
		"the root's own": {
			mesh: `"*.local"`, namespace: "istio-system", hosts: `"*.shop.svc.cluster.local"`, asked: `"*.shop.svc.cluster.local"`,
			want: []string{"*.local"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, gatewayDoc("istio-system", "mesh", early, strings.ReplaceAll(opens, "HOSTS", c.mesh))+
				gatewayDoc(c.namespace, "front", late, tlsPort(c.hosts))+
				routeDoc(c.namespace, "v", late, `gateways: [front], hosts: [`+c.hosts+`], tls: [{match: [{sniHosts: [`+c.asked+`]}], `+route+`}]`))

			var got []string
			for _, chain := range message[*listenerv3.Listener](s, s.gateway, xds.TypeListener, "0.0.0.0_443").GetFilterChains() {
				if len(chain.FilterChainMatch.GetApplicationProtocols()) > 0 {
					got = append(got, strings.Join(chain.FilterChainMatch.ServerNames, " "))
				}
			}
			if got := strings.Fields(strings.Join(got, " ")); !slices.Equal(got, strings.Fields(strings.Join(c.want, " "))) {
				t.Errorf("the mesh's protocol is taken for %q, want %q", got, c.want)
			}
		})
	}
}
