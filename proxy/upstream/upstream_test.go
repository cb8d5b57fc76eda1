package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

func newTestSet(t testing.TB, o Options) *Set {
	t.Helper()
	s := NewSet(o)
	t.Cleanup(s.Close)
	return s
}

func apply(t testing.TB, s *Set, c *config.Cluster) *Cluster {
	t.Helper()
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = time.Second
	}
	if err := s.Apply(c); err != nil {
		t.Fatal(err)
	}
	return s.Get(c.Name)
}

// at makes an endpoint 10.0.0.n.
func at(n byte) config.Endpoint {
	return config.Endpoint{Addr: netip.AddrFrom4([4]byte{10, 0, 0, n}), Port: 80, Weight: 1, Healthy: true}
}

// locality puts endpoints in one priority.
func locality(priority uint32, eps ...config.Endpoint) config.LocalityEndpoints {
	return config.LocalityEndpoints{Priority: priority, Endpoints: eps}
}

func eds(name string, ls ...config.LocalityEndpoints) *config.LoadAssignment {
	return &config.LoadAssignment{Name: name, Localities: ls}
}

// picks counts picks by last byte of the address.
func picks(t testing.TB, c *Cluster, n int) map[byte]int {
	t.Helper()
	got := map[byte]int{}
	for range n {
		e, err := c.Pick(Hint{})
		if err != nil {
			t.Fatal(err)
		}
		got[e.Addr().Addr().As4()[3]]++
	}
	return got
}

// near tells whether counts are as wanted within a tenth of all.
func near(got map[byte]int, want map[byte]int, n int) bool {
	for k := range got {
		if _, ok := want[k]; !ok {
			return false
		}
	}
	for k, w := range want {
		if d := got[k] - w; d > n/10 || d < -n/10 {
			return false
		}
	}
	return true
}

func TestPickPolicies(t *testing.T) {
	heavy := at(1)
	heavy.Weight = 3
	sick := at(3)
	sick.Healthy = false
	weighted := func(weight uint32, l config.LocalityEndpoints) config.LocalityEndpoints {
		l.Weight = weight
		return l
	}
	half := config.Balance{PanicPercent: 50}
	byLocality := config.Balance{LocalityWeights: true}
	cases := map[string]struct {
		lb            config.LBPolicy
		balance       config.Balance
		overprovision uint32
		ls            []config.LocalityEndpoints
		want          map[byte]int // of 1000
	}{
		"panic": {
			lb:      config.LBRandom,
			balance: half,
			ls:      []config.LocalityEndpoints{locality(0, at(1), sick, withoutHealth(4))},
			want:    map[byte]int{1: 333, 3: 333, 4: 333},
		},
		"no panic while another priority helps out": {
			lb:      config.LBRandom,
			balance: half,
			ls:      []config.LocalityEndpoints{locality(0, at(1), sick, withoutHealth(4)), locality(1, at(2))},
			want:    map[byte]int{1: 467, 2: 533},
		},
		"panic of one priority of two": {
			lb:      config.LBRandom,
			balance: half,
			ls: []config.LocalityEndpoints{
				locality(0, at(1), sick, withoutHealth(4), withoutHealth(5)),                     // 35 %
				locality(1, at(6), at(7), withoutHealth(8), withoutHealth(9), withoutHealth(10)), // 56 %
			},
			want: map[byte]int{1: 96, 3: 96, 4: 96, 5: 96, 6: 123, 7: 123, 8: 123, 9: 123, 10: 123},
		},
		"panic of all": {
			lb:      config.LBRandom,
			balance: half,
			ls:      []config.LocalityEndpoints{locality(0, sick), locality(1, withoutHealth(1), withoutHealth(2), withoutHealth(4))},
			want:    map[byte]int{3: 250, 1: 250, 2: 250, 4: 250},
		},
		"a sixth of the near ones is enough": {
			lb:            config.LBRandom,
			overprovision: 600,
			ls:            []config.LocalityEndpoints{locality(0, at(1), sick, withoutHealth(4)), locality(1, at(2))},
			want:          map[byte]int{1: 1000},
		},
		"localities by their weights": {
			lb:      config.LBRandom,
			balance: byLocality,
			ls:      []config.LocalityEndpoints{weighted(80, locality(0, at(1))), weighted(20, locality(0, at(2), at(4)))},
			want:    map[byte]int{1: 800, 2: 100, 4: 100},
		},
		"localities by their weights, of which one is half healthy": {
			lb:      config.LBRandom,
			balance: byLocality,
			ls:      []config.LocalityEndpoints{weighted(50, locality(0, at(1), sick)), weighted(50, locality(0, at(2)))},
			want:    map[byte]int{1: 412, 2: 588},
		},
		"a locality without a weight": {
			lb:      config.LBRandom,
			balance: byLocality,
			ls:      []config.LocalityEndpoints{weighted(1, locality(0, at(1))), locality(0, at(2))},
			want:    map[byte]int{1: 1000},
		},
		"round robin": {
			lb:   config.LBRoundRobin,
			ls:   []config.LocalityEndpoints{locality(0, at(1), at(2)), locality(0, at(3), at(4))},
			want: map[byte]int{1: 250, 2: 250, 3: 250, 4: 250},
		},
		"weighted round robin": {
			lb:   config.LBRoundRobin,
			ls:   []config.LocalityEndpoints{locality(0, heavy, at(2))},
			want: map[byte]int{1: 750, 2: 250},
		},
		"random": {
			lb:   config.LBRandom,
			ls:   []config.LocalityEndpoints{locality(0, at(1), at(2))},
			want: map[byte]int{1: 500, 2: 500},
		},
		"weighted random": {
			lb:   config.LBRandom,
			ls:   []config.LocalityEndpoints{locality(0, heavy, at(2))},
			want: map[byte]int{1: 750, 2: 250},
		},
		"least request, idle": {
			lb:   config.LBLeastRequest,
			ls:   []config.LocalityEndpoints{locality(0, at(1), at(2), at(4))},
			want: map[byte]int{1: 333, 2: 333, 4: 333},
		},
		"unhealthy left out": {
			lb:   config.LBRandom,
			ls:   []config.LocalityEndpoints{locality(0, at(1), at(2), sick)},
			want: map[byte]int{1: 500, 2: 500},
		},
		"unhealthy as last resort": {
			lb:   config.LBRandom,
			ls:   []config.LocalityEndpoints{locality(0, sick)},
			want: map[byte]int{3: 1000},
		},
		"first priority": {
			lb:   config.LBRandom,
			ls:   []config.LocalityEndpoints{locality(1, at(2)), locality(0, at(1))},
			want: map[byte]int{1: 1000},
		},
		"failover": {
			lb:   config.LBRandom,
			ls:   []config.LocalityEndpoints{locality(0, sick), locality(1, at(2))},
			want: map[byte]int{2: 1000},
		},
		"spill over": {
			lb:   config.LBRandom,
			ls:   []config.LocalityEndpoints{locality(0, sick, at(1)), locality(1, at(2))},
			want: map[byte]int{1: 700, 2: 300},
		},
		"little is left": {
			lb:   config.LBRandom,
			ls:   []config.LocalityEndpoints{locality(0, at(1), sick, at(4), withoutHealth(5), withoutHealth(6))},
			want: map[byte]int{1: 500, 4: 500},
		},
		"priorities with a gap": {
			lb:   config.LBRandom,
			ls:   []config.LocalityEndpoints{locality(7, at(1))},
			want: map[byte]int{1: 1000},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := newTestSet(t, Options{})
			cl := apply(t, s, &config.Cluster{Name: "c", Type: config.ClusterEDS, EDSName: "e", LB: c.lb, Balance: c.balance})
			la := eds("e", c.ls...)
			la.Overprovision = c.overprovision
			s.ApplyEndpoints(la)
			if got := picks(t, cl, 1000); !near(got, c.want, 1000) {
				t.Errorf("got %v, want about %v", got, c.want)
			}
		})
	}
}

func withoutHealth(n byte) config.Endpoint {
	e := at(n)
	e.Healthy = false
	return e
}

// TestLeastRequest: a busy endpoint is passed over.
func TestLeastRequest(t *testing.T) {
	s := newTestSet(t, Options{})
	c := apply(t, s, &config.Cluster{Name: "c", Type: config.ClusterEDS, EDSName: "e", LB: config.LBLeastRequest})
	s.ApplyEndpoints(eds("e", locality(0, at(1), at(2))))
	busy := c.Endpoints()[0]
	for range 5 {
		busy.Begin()
	}
	if got := picks(t, c, 1000); got[1] > 0 {
		t.Errorf("the busy one was picked %d times", got[1])
	}
}

func TestPickUntried(t *testing.T) {
	s := newTestSet(t, Options{})
	c := apply(t, s, &config.Cluster{Name: "c", Type: config.ClusterEDS, EDSName: "e"})
	var pick *PickError
	if _, err := c.Pick(Hint{}); !errors.As(err, &pick) {
		t.Errorf("without endpoints: %v", err)
	}
	s.ApplyEndpoints(eds("e", locality(0, at(1), at(2)), locality(1, at(3))))
	seen := map[*Endpoint]bool{}
	var h Hint
	for range 3 {
		e, err := c.Pick(h)
		if err != nil || seen[e] {
			t.Fatalf("got %v again, %v", e, err)
		}
		seen[e] = true
		h.Tried = append(h.Tried, e)
	}
	if _, err := c.Pick(h); !errors.As(err, &pick) {
		t.Errorf("all were tried: %v", err)
	}
}

// TestEndpointsKeepIdentity: an update touches only the endpoints that it
// changes, and no other cluster.
func TestEndpointsKeepIdentity(t *testing.T) {
	s := newTestSet(t, Options{})
	a := apply(t, s, &config.Cluster{Name: "a", Type: config.ClusterEDS, EDSName: "a"})
	b := apply(t, s, &config.Cluster{Name: "b", Type: config.ClusterEDS, EDSName: "b"})
	s.ApplyEndpoints(eds("a", locality(0, at(1), at(2))))
	s.ApplyEndpoints(eds("b", locality(0, at(1))))
	before, other := a.Endpoints(), b.table.Load()
	moved := at(2)
	moved.Workload.Name = "another"
	s.ApplyEndpoints(eds("a", locality(1, at(1)), locality(0, moved, at(3))))
	after := a.Endpoints()
	if after[0] != before[0] || before[0].Retired() {
		t.Error("an endpoint that did not change was replaced")
	}
	if after[1] == before[1] || !before[1].Retired() {
		t.Error("a changed endpoint was not replaced")
	}
	if b.table.Load() != other {
		t.Error("another cluster was touched")
	}
}

// pool is an Attachment.
type pool struct{ retired int }

func (p *pool) Retire() { p.retired++ }

func TestAttachment(t *testing.T) {
	s := newTestSet(t, Options{})
	c := apply(t, s, &config.Cluster{Name: "c", Type: config.ClusterEDS, EDSName: "e"})
	s.ApplyEndpoints(eds("e", locality(0, at(1))))
	e := c.Endpoints()[0]
	made := 0
	create := func(*Endpoint) Attachment { made++; return &pool{} }
	p := e.Attach(create).(*pool)
	if e.Attach(create) != Attachment(p) || e.Attachment() != Attachment(p) || made != 1 {
		t.Error("it was made twice")
	}
	s.ApplyEndpoints(eds("e"))
	if p.retired != 1 {
		t.Errorf("retired %d times, want once", p.retired)
	}
	s.Remove("c")
	if p.retired != 1 {
		t.Errorf("retired %d times, want once", p.retired)
	}
	late := &Endpoint{cluster: c}
	late.retire()
	if q := late.Attach(create).(*pool); q.retired != 1 {
		t.Error("what is attached to a retired endpoint has to retire")
	}
}

// TestClusterUpdates: references see clusters come, change and go; endpoints
// known before the cluster are taken.
func TestClusterUpdates(t *testing.T) {
	s := newTestSet(t, Options{})
	ref := s.Ref("c")
	if ref.Load() != nil || s.Get("c") != nil {
		t.Error("a cluster out of nothing")
	}
	s.ApplyEndpoints(eds("e", locality(0, at(1))))
	one := apply(t, s, &config.Cluster{Name: "c", Type: config.ClusterEDS, EDSName: "e", Version: "1"})
	if ref.Load() != one || picks(t, one, 1)[1] != 1 {
		t.Error("the cluster has no endpoints")
	}
	if same := apply(t, s, &config.Cluster{Name: "c", Type: config.ClusterEDS, EDSName: "e", Version: "1"}); same != one {
		t.Error("an update that changes nothing replaced the cluster")
	}
	two := apply(t, s, &config.Cluster{Name: "c", Type: config.ClusterEDS, EDSName: "e", Version: "2"})
	if two != one || ref.Load() != two || two.Config().Version != "2" || picks(t, two, 1)[1] != 1 {
		t.Error("the new version is not in force")
	}
	if got := s.EDSNames(); !reflect.DeepEqual(got, []string{"e"}) {
		t.Errorf("EDS names: %v", got)
	}
	s.Remove("c")
	s.DropEndpoints()
	if ref.Load() != nil || len(s.EDSNames()) != 0 || len(s.load) != 0 {
		t.Error("something of the cluster is left")
	}
}

func TestTransportByMetadata(t *testing.T) {
	s := newTestSet(t, Options{Identity: nil})
	tls := &config.UpstreamTLS{SNI: "x", Roots: config.TrustRoots{Source: config.CertSystem}}
	c := apply(t, s, &config.Cluster{Name: "c", Type: config.ClusterEDS, EDSName: "e", Matches: []config.TransportMatch{
		{Match: map[string]string{"tlsMode": "istio"}, Transport: config.Transport{TLS: tls}},
		{Match: map[string]string{}, Transport: config.Transport{}},
	}})
	meshed := at(1)
	meshed.TransportMatch = map[string]string{"tlsMode": "istio", "other": "x"}
	s.ApplyEndpoints(eds("e", locality(0, meshed, at(2))))
	eps := c.Endpoints()
	if eps[0].TLS() != tls || eps[1].TLS() != nil {
		t.Errorf("got %v and %v", eps[0].TLS(), eps[1].TLS())
	}
	mesh := &config.Cluster{Name: "m", ConnectTimeout: 1, Transport: config.Transport{TLS: &config.UpstreamTLS{Cert: config.CertMesh}}}
	if err := s.Apply(mesh); err == nil {
		t.Error("the mesh's certificate without an identity")
	}
}

func TestOriginalDst(t *testing.T) {
	s := newTestSet(t, Options{})
	c := apply(t, s, &config.Cluster{Name: "p", Type: config.ClusterOriginalDst})
	if _, err := c.Pick(Hint{}); err == nil {
		t.Error("picked without a destination")
	}
	dst := netip.MustParseAddrPort("10.0.0.1:80")
	a, err := c.Pick(Hint{OriginalDst: dst})
	if err != nil || a.Addr() != dst {
		t.Fatalf("got %v, %v", a, err)
	}
	if b, _ := c.Pick(Hint{OriginalDst: netip.MustParseAddrPort("10.0.0.2:80")}); b == a {
		t.Error("two addresses, one endpoint")
	}
	if b, _ := c.Pick(Hint{OriginalDst: dst}); b != a {
		t.Error("one address, two endpoints")
	}
	if _, err := c.Pick(Hint{OriginalDst: dst, Tried: []*Endpoint{a}}); err == nil {
		t.Error("the same address was picked again")
	}
	a.Begin()
	c.dst.sweep(1 << 60)
	if a.Retired() || len(c.Endpoints()) != 1 {
		t.Error("an endpoint in use was swept, or an idle one was not")
	}
	a.End()
	c.dst.sweep(1 << 60)
	if !a.Retired() || len(c.Endpoints()) != 0 {
		t.Error("an idle endpoint was not swept")
	}
	if b, err := c.Pick(Hint{OriginalDst: dst}); err != nil || b == a {
		t.Errorf("after the sweep: %v, %v", b, err)
	}
}

func TestPickDoesNotAllocate(t *testing.T) {
	s := newTestSet(t, Options{})
	c := apply(t, s, &config.Cluster{Name: "c", Type: config.ClusterEDS, EDSName: "e", LB: config.LBLeastRequest})
	s.ApplyEndpoints(eds("e", locality(0, at(1), at(2))))
	p := apply(t, s, &config.Cluster{Name: "p", Type: config.ClusterOriginalDst})
	dst := Hint{OriginalDst: netip.MustParseAddrPort("10.0.0.1:80")}
	ref := s.Ref("c")
	n := testing.AllocsPerRun(1000, func() {
		e, _ := ref.Load().Pick(Hint{})
		e.Begin()
		e.Report(OutcomeOK)
		e.End()
		_, _ = p.Pick(dst)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
	_ = c
}

// resolver answers from a table.
type resolver struct {
	mu    sync.Mutex
	addrs map[string][]netip.Addr
	ttl   time.Duration
	asked int
}

func (r *resolver) Resolve(_ context.Context, host string) ([]netip.Addr, time.Duration, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if a := r.addrs[host]; len(a) > 0 {
		return append([]netip.Addr(nil), a...), r.ttl, nil
	}
	return nil, 0, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

func (r *resolver) set(host string, addrs ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.addrs[host] = nil
	for _, a := range addrs {
		r.addrs[host] = append(r.addrs[host], netip.MustParseAddr(a))
	}
}

func dnsCluster(name string, typ config.ClusterType, hosts ...string) *config.Cluster {
	la := eds(name, config.LocalityEndpoints{})
	for _, h := range hosts {
		e := config.Endpoint{Host: h, Port: 80, Weight: 1, Healthy: true}
		if ip, err := netip.ParseAddr(h); err == nil {
			e.Host, e.Addr = "", ip
		}
		la.Localities[0].Endpoints = append(la.Localities[0].Endpoints, e)
	}
	return &config.Cluster{Name: name, Type: typ, Endpoints: la, DNSRefresh: time.Second, DNSFamily: config.DNSV4Preferred}
}

func addresses(c *Cluster) string {
	var out []string
	for _, e := range c.Endpoints() {
		out = append(out, e.Addr().String())
	}
	return fmt.Sprint(out)
}

func TestDNS(t *testing.T) {
	r := &resolver{addrs: map[string][]netip.Addr{}}
	r.set("two.example", "10.0.0.2", "10.0.0.1", "fd00::1")
	r.set("six.example", "fd00::1")
	s := newTestSet(t, Options{Resolver: r})
	for _, c := range []struct {
		name string
		cfg  *config.Cluster
		want string
	}{
		{"strict", dnsCluster("a", config.ClusterStrictDNS, "two.example"), "[10.0.0.1:80 10.0.0.2:80]"},
		{"logical", dnsCluster("b", config.ClusterLogicalDNS, "two.example"), "[10.0.0.2:80]"},
		{"fallback to v6", dnsCluster("c", config.ClusterStrictDNS, "six.example"), "[[fd00::1]:80]"},
		{
			name: "literal and name",
			cfg:  dnsCluster("d", config.ClusterStrictDNS, "192.0.2.1", "two.example"),
			want: "[10.0.0.1:80 10.0.0.2:80 192.0.2.1:80]",
		},
		{"literal", dnsCluster("e", config.ClusterStrictDNS, "192.0.2.1"), "[192.0.2.1:80]"},
		{"no such name", dnsCluster("f", config.ClusterStrictDNS, "none.example"), "[]"},
	} {
		cl := apply(t, s, c.cfg)
		if !cl.WaitReady(context.Background()) {
			t.Errorf("%s: not ready", c.name)
		}
		if got := addresses(cl); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

// TestDNSChanges: addresses follow the name; a name that cannot be resolved
// for a while keeps its last addresses.
func TestDNSChanges(t *testing.T) {
	r := &resolver{addrs: map[string][]netip.Addr{}}
	r.set("a.example", "10.0.0.1")
	s := newTestSet(t, Options{Resolver: r})
	c := apply(t, s, dnsCluster("a", config.ClusterStrictDNS, "a.example"))
	c.WaitReady(context.Background())
	first := c.Endpoints()[0]
	if first.Hostname() != "a.example" {
		t.Errorf("host name %q", first.Hostname())
	}
	r.set("a.example")
	resolved := func() int { r.mu.Lock(); defer r.mu.Unlock(); return r.asked }
	wait := func(what string, cond func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			if cond() {
				return
			}
		}
		t.Fatal("never: " + what)
	}
	n := resolved()
	wait("asked again", func() bool { return resolved() > n })
	if c.Endpoints()[0] != first {
		t.Error("the last address was dropped")
	}
	r.set("a.example", "10.0.0.2")
	wait("new address", func() bool { return addresses(c) == "[10.0.0.2:80]" })
	if !first.Retired() {
		t.Error("the old address is still in use")
	}
}

// TestDestinationPort: an ORIGINAL_DST cluster goes to the address that the
// client chose, and to a port of its own where it has one.
func TestDestinationPort(t *testing.T) {
	s := newTestSet(t, Options{})
	dst := netip.MustParseAddrPort("10.20.0.1:80")
	for port, want := range map[uint16]string{0: "10.20.0.1:80", 8080: "10.20.0.1:8080"} {
		c := apply(t, s, &config.Cluster{Name: fmt.Sprint("c", port), Type: config.ClusterOriginalDst, LB: config.LBClusterProvided, DestinationPort: port})
		e, err := c.Pick(Hint{OriginalDst: dst})
		if err != nil || e.Addr().String() != want {
			t.Errorf("port %d: %v, %v, want %s", port, e, err, want)
		}
	}
}
