package upstream

import (
	"context"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/test/hole"
)

// TestLostSYN: to an endpoint without another, a SYN that was lost costs time, not the
// connection.
func TestLostSYN(t *testing.T) {
	// Below the second after which the kernel sends a SYN again.
	const limit = 900 * time.Millisecond
	for name, tt := range map[string]struct {
		others  int
		reached bool
	}{
		"a lone endpoint": {others: 0, reached: true},
		"one of two":      {others: 1, reached: false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr, accept := hole.Listen(t)
			endpoints := []config.Endpoint{{Addr: addr.Addr(), Port: addr.Port(), Healthy: true}}
			for range tt.others {
				endpoints = append(endpoints, config.Endpoint{Addr: addr.Addr(), Port: 1, Healthy: true})
			}
			s := newTestSet(t, Options{})
			c := apply(t, s, &config.Cluster{
				Name: "c", Type: config.ClusterStatic, ConnectTimeout: limit,
				Endpoints: eds("c", locality(0, endpoints...)),
			})
			var full *Endpoint
			for _, e := range c.Endpoints() {
				if e.Addr() == addr {
					full = e
				}
			}

			// In the second try: its SYN is lost, too, and the third one's is not.
			room := time.AfterFunc(limit*3/2, accept)
			defer room.Stop()
			conn, _, err := full.Dial(context.Background(), config.ProtocolTCP)
			if reached := err == nil; reached != tt.reached {
				t.Fatalf("reached: %v, want %v (%v)", reached, tt.reached, err)
			}
			if err == nil {
				conn.Close()
			}
		})
	}
}
