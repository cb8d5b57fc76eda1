package upstream

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// TestAlone: an endpoint is alone when no other is known to serve, and then has more time.
func TestAlone(t *testing.T) {
	near, far := locality(0, at(1), at(2)), locality(1, at(3))
	cases := map[string]struct {
		ls      []config.LocalityEndpoints
		fails   []byte
		outcome Outcome
		alone   bool
	}{
		"there is no other":              {[]config.LocalityEndpoints{far}, nil, OutcomeOK, true},
		"others serve":                   {[]config.LocalityEndpoints{near, far}, nil, OutcomeOK, false},
		"one other serves":               {[]config.LocalityEndpoints{near, far}, []byte{1}, outcomeConnectError, false},
		"the others cannot be reached":   {[]config.LocalityEndpoints{near, far}, []byte{1, 2}, outcomeConnectError, true},
		"the others' applications ended": {[]config.LocalityEndpoints{near, far}, []byte{1, 2}, OutcomeHandedBack, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			m := newMesh(t, &config.Cluster{ConnectTimeout: 500 * time.Millisecond}, c.ls...)
			for _, n := range c.fails {
				m.endpoint(n).Report(c.outcome)
			}
			e, limit := m.endpoint(3), 2*time.Second
			if c.alone {
				limit = 6 * time.Second
			}
			if e.Alone() != c.alone || e.handshakeTime() != limit {
				t.Errorf("alone: %v, with %v for a handshake", e.Alone(), e.handshakeTime())
			}
		})
	}

	t.Run("the others are left out", func(t *testing.T) {
		m := newMesh(t, &config.Cluster{}, near, far)
		for _, n := range []byte{1, 2} {
			report(m.endpoint(n), OutcomeGatewayError, 5)
		}
		if !m.endpoint(3).Alone() {
			t.Error("it counts on those that are ejected")
		}
	})
}
