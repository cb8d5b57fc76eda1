package upstream

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// TestStates: where each endpoint stands, and what it gets of the load.
func TestStates(t *testing.T) {
	near := config.LocalityEndpoints{Region: "r1", Zone: "z1", Endpoints: []config.Endpoint{at(1), at(2), at(3), at(4)}}
	far := config.LocalityEndpoints{Region: "r2", Priority: 1, Endpoints: []config.Endpoint{at(11), at(12)}}
	far.Endpoints[0].Weight = 3
	far.Endpoints[1].Gateway = true
	s := newTestSet(t, Options{})
	c := apply(t, s, &config.Cluster{Name: "c", Type: config.ClusterEDS, EDSName: "e"})
	if got := c.States(); got != nil {
		t.Errorf("before there are endpoints they are %v", got)
	}
	s.ApplyEndpoints(eds("e", near, far))

	shares := func() (out []string) {
		for _, e := range c.States() {
			out = append(out, fmt.Sprintf("%d:%.0f", e.Addr().Addr().As4()[3], math.Round(100*e.Share)))
		}
		return out
	}
	if got, want := fmt.Sprint(shares()), "[1:25 2:25 3:25 4:25 11:0 12:0]"; got != want {
		t.Errorf("shares are %s, want %s", got, want)
	}

	// Of four, one is left: it may carry 1.4 times its quarter, and the others 65 %
	// by their weights.
	began := time.Now()
	for _, e := range c.States()[:3] {
		report(e.Endpoint, OutcomeGatewayError, 5)
	}
	if got, want := fmt.Sprint(shares()), "[1:0 2:0 3:0 4:35 11:49 12:16]"; got != want {
		t.Errorf("shares are %s, want %s", got, want)
	}

	states := c.States()
	if e := states[0]; !e.Ejected() || !e.EjectedUntil.After(began) || e.Priority != 0 || e.Region != "r1" || e.Zone != "z1" {
		t.Errorf("the first is %+v, ejected until %s", e, e.EjectedUntil)
	}
	if e := states[3]; e.Ejected() || !e.EjectedUntil.IsZero() {
		t.Errorf("one that serves is ejected until %s", e.EjectedUntil)
	}
	if e := states[4]; e.Weight != 3 || e.Priority != 1 || e.Region != "r2" || e.Gateway || !states[5].Gateway {
		t.Errorf("the far ones are %+v", states[4:])
	}
}
