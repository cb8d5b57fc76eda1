package upstream

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// attached counts how often it has to retire.
type attached struct{ retired atomic.Int64 }

func (a *attached) Retire() { a.retired.Add(1) }

func attach(e *Endpoint) *attached {
	return e.Attach(func(*Endpoint) Attachment { return &attached{} }).(*attached)
}

// change applies the cluster of a mesh with something changed.
func (m *mesh) change(t *testing.T, edit func(*config.Cluster)) {
	t.Helper()
	next := *m.Config()
	edit(&next)
	if got := apply(t, m.set, &next); got != m.Cluster {
		t.Fatal("another cluster has taken its place")
	}
}

// TestChangeKeepsHealth: whatever somebody changes at a cluster while a part of it
// fails, requests do not go to that part again. They did: a change made all endpoints
// anew.
func TestChangeKeepsHealth(t *testing.T) {
	plain := func() *config.UpstreamTLS {
		return &config.UpstreamTLS{SNI: "a", Roots: config.TrustRoots{Source: config.CertSystem}}
	}
	for _, c := range []struct {
		name  string
		edit  func(*config.Cluster)
		renew bool // connections of before come to an end
	}{
		{name: "ejection", edit: func(c *config.Cluster) { c.Outlier = &config.OutlierDetection{Consecutive5xx: 3, MaxPercent: 50} }},
		{name: "load balancing", edit: func(c *config.Cluster) { c.LB = config.LBLeastRequest }},
		{name: "slow start", edit: func(c *config.Cluster) { c.Balance.SlowStart = &config.SlowStart{Window: time.Second, Aggression: 1} }},
		{name: "limits", edit: func(c *config.Cluster) { c.Limits = &config.Limits{Requests: 10} }},
		{name: "time to connect", edit: func(c *config.Cluster) { c.ConnectTimeout = time.Minute }},
		{name: "TLS that is the same", edit: func(c *config.Cluster) { c.Transport.TLS = plain() }},
		{name: "TLS", edit: func(c *config.Cluster) { c.Transport.TLS.SNI = "b" }, renew: true},
		{name: "no TLS any more", edit: func(c *config.Cluster) { c.Transport = config.Transport{} }, renew: true},
		{name: "HTTP", edit: func(c *config.Cluster) { c.HTTP.MaxStreams = 1 }, renew: true},
		{name: "keepalive", edit: func(c *config.Cluster) { c.Keepalive = &config.TCPKeepalive{Probes: 2} }, renew: true},
		{name: "own address", edit: func(c *config.Cluster) { c.BindSource = []netip.Addr{netip.MustParseAddr("127.0.0.6")} }, renew: true},
		{name: "the service's name", edit: func(c *config.Cluster) { c.Service.Name = "b" }, renew: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMesh(t, &config.Cluster{Transport: config.Transport{TLS: plain()}}, locality(0, at(1), at(2)))
			m.dead.Store(true)
			out, well := m.endpoint(1), m.endpoint(2)
			a := attach(well)
			report(out, outcomeConnectError, 3)
			if !out.Ejected() {
				t.Fatal("it is not ejected")
			}

			m.change(t, func(cfg *config.Cluster) {
				cfg.Transport.TLS = plain()
				c.edit(cfg)
			})
			if m.endpoint(1) != out || m.endpoint(2) != well {
				t.Fatal("endpoints were made anew")
			}
			if got := picks(t, m.Cluster, 100); got[1] != 0 {
				t.Errorf("%d of 100 requests go to the one that cannot be reached", got[1])
			}
			if got := a.retired.Load(); got != map[bool]int64{true: 1}[c.renew] {
				t.Errorf("the connections of the other one were told to end %d times", got)
			}
			if c.renew == (attach(well) == a) {
				t.Errorf("connections are made anew: %v, want %v", !c.renew, c.renew)
			}
		})
	}
}

// TestChangeOfWay: what answered wrongly over one kind of connection gets one request
// over another kind, and what could not be reached is looked at again at once.
func TestChangeOfWay(t *testing.T) {
	m := newMesh(t, &config.Cluster{}, locality(0, at(1), at(2), at(3)), locality(1, at(4)))
	m.dead.Store(true)
	wrong, lost := m.endpoint(1), m.endpoint(2)
	report(wrong, OutcomeReset, 3)
	lost.health.times.Add(5)
	lost.health.proven = provenByConnection // it sits out for long, whatever knocks find
	report(lost, outcomeConnectError, 3)
	if !wrong.Ejected() || !lost.Ejected() {
		t.Fatal("they are not ejected")
	}

	m.change(t, func(c *config.Cluster) {
		c.Transport.TLS = &config.UpstreamTLS{Roots: config.TrustRoots{Source: config.CertSystem}}
	})
	if got := picks(t, m.Cluster, 100); got[1] != 1 || got[2] != 0 {
		t.Errorf("got %v, want one request on trial for 1, none for 2", got)
	}
	if n := m.told(EventEjected); n != 1 {
		t.Errorf("%d are told to be ejected", n)
	}
	m.dead.Store(false)
	await(t, "it is let in as soon as it can be reached", func() bool { return !lost.Ejected() })
}

// TestChangeOfEjection: who sits out does so for no longer than new settings say.
func TestChangeOfEjection(t *testing.T) {
	long := config.OutlierDetection{Consecutive5xx: 2, MaxPercent: 100, BaseEjection: time.Hour, MaxEjection: time.Hour}
	for name, edit := range map[string]func(*config.OutlierDetection){
		"shorter": func(o *config.OutlierDetection) { o.BaseEjection, o.MaxEjection = time.Millisecond, time.Millisecond },
		"off":     func(o *config.OutlierDetection) { o.Consecutive5xx = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			before := long
			m := newMesh(t, &config.Cluster{Outlier: &before}, locality(0, at(1), at(2)))
			e := m.endpoint(1)
			report(e, OutcomeServerError, 2)
			if !e.Ejected() {
				t.Fatal("it is not ejected")
			}
			m.change(t, func(c *config.Cluster) { c.LB = config.LBLeastRequest })
			if !e.Ejected() {
				t.Fatal("a change of something else lets it in")
			}
			m.change(t, func(c *config.Cluster) {
				o := long
				edit(&o)
				c.Outlier = &o
			})
			await(t, "it is let in", func() bool { return !e.Ejected() })
			if got := picks(t, m.Cluster, 100); got[1] != 1 {
				t.Errorf("%d requests are on trial, want 1", got[1])
			}
		})
	}
}

// TestChangeOfLimits: limits count what began before there were any, and what ends
// once there are none.
func TestChangeOfLimits(t *testing.T) {
	m := newMesh(t, &config.Cluster{}, locality(0, at(1)))
	e := m.endpoint(1)
	if !e.Begin() || e.Reserve() != nil || !m.BeginRetry() {
		t.Fatal("refused without a limit")
	}
	m.change(t, func(c *config.Cluster) { c.Limits = &config.Limits{Requests: 1, Connections: 1, Retries: 1} })
	var full *OverflowError
	if e.Begin() || !errors.As(e.Reserve(), &full) || m.BeginRetry() {
		t.Error("what began before does not count")
	}
	m.change(t, func(c *config.Cluster) { c.Limits = nil })
	e.End()
	e.Hangup()
	m.EndRetry()
	s := &m.spending
	if s.requests.Load() != 0 || s.conns.Load() != 0 || s.retries.Load() != 0 || e.conns.Load() != 0 {
		t.Errorf("left over: %d requests, %d connections, %d retries", s.requests.Load(), s.conns.Load(), s.retries.Load())
	}
}

// TestEndpointReachedOtherwise: an endpoint that is to be reached in another way, as
// once its pod has a sidecar, is the same one behind new connections; another workload
// at its address is not.
func TestEndpointReachedOtherwise(t *testing.T) {
	tls := &config.UpstreamTLS{Roots: config.TrustRoots{Source: config.CertSystem}}
	m := newMesh(t, &config.Cluster{Matches: []config.TransportMatch{
		{Match: map[string]string{"tlsMode": "istio"}, Transport: config.Transport{TLS: tls}},
	}}, locality(0, at(1), at(2)))
	e, other := m.endpoint(1), m.endpoint(2)
	a, b := attach(e), attach(other)
	e.Report(OutcomeHandedBack)

	meshed, replaced := at(1), at(2)
	meshed.TransportMatch = map[string]string{"tlsMode": "istio"}
	replaced.Workload.Name = "b"
	m.set.ApplyEndpoints(eds("e", locality(0, meshed, replaced)))
	if m.endpoint(1) != e || e.TLS() != tls || a.retired.Load() != 1 {
		t.Errorf("TLS %v, retired %d times", e.TLS(), a.retired.Load())
	}
	if got := picks(t, m.Cluster, 100); got[1] != 0 {
		t.Errorf("in doubt it was picked %d times", got[1])
	}
	if m.endpoint(2) == other || !other.Retired() || b.retired.Load() != 1 {
		t.Error("another workload has inherited what was known of the one before")
	}
}

// TestChangeOfAssignment: a cluster that takes other endpoints keeps those that it has
// until they come.
func TestChangeOfAssignment(t *testing.T) {
	m := newMesh(t, &config.Cluster{}, locality(0, at(1)))
	m.change(t, func(c *config.Cluster) { c.EDSName = "f" })
	if got := m.set.EDSNames(); len(got) != 1 || got[0] != "f" {
		t.Errorf("it asks for %v", got)
	}
	m.set.DropEndpoints()
	if got := picks(t, m.Cluster, 10); got[1] != 10 {
		t.Errorf("meanwhile: %v", got)
	}
	m.set.ApplyEndpoints(eds("f", locality(0, at(2))))
	if got := picks(t, m.Cluster, 10); got[2] != 10 {
		t.Errorf("then: %v", got)
	}
}

// TestChangeOfNames: a change of a DNS cluster leaves it its addresses until names are
// resolved anew, also where they cannot be.
func TestChangeOfNames(t *testing.T) {
	r := &resolver{addrs: map[string][]netip.Addr{}}
	r.set("a.example", "10.0.0.1")
	s := newTestSet(t, Options{Resolver: r})
	c := apply(t, s, dnsCluster("a", config.ClusterStrictDNS, "a.example"))
	c.WaitReady(context.Background())
	first := c.Endpoints()[0]

	r.set("a.example")
	next := dnsCluster("a", config.ClusterStrictDNS, "a.example")
	next.ConnectTimeout = time.Minute
	if apply(t, s, next) != c {
		t.Fatal("another cluster has taken its place")
	}
	r.mu.Lock()
	n := r.asked
	r.mu.Unlock()
	await(t, "the name is asked for again", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.asked > n })
	if got := c.Endpoints(); len(got) != 1 || got[0] != first {
		t.Errorf("while the name cannot be resolved: %s", addresses(c))
	}

	r.set("b.example", "10.0.0.2")
	apply(t, s, dnsCluster("a", config.ClusterStrictDNS, "b.example"))
	await(t, "the new name's address", func() bool { return addresses(c) == "[10.0.0.2:80]" })
}

// TestChangeOfType: a cluster of another type is another one.
func TestChangeOfType(t *testing.T) {
	m := newMesh(t, &config.Cluster{}, locality(0, at(1)))
	e := m.endpoint(1)
	c := apply(t, m.set, &config.Cluster{Name: "c", Type: config.ClusterStatic, Endpoints: eds("c", locality(0, at(2)))})
	if c == m.Cluster || !e.Retired() || len(m.set.EDSNames()) != 0 {
		t.Error("something of the old one is left")
	}
	if got := picks(t, c, 10); got[2] != 10 {
		t.Errorf("got %v", got)
	}
}
