package upstream

import (
	"context"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// TestReadinessIsNoConnection: a cluster that is new is waited for however little
// time there is to connect to its endpoints.
func TestReadinessIsNoConnection(t *testing.T) {
	s := newTestSet(t, Options{})
	c := apply(t, s, &config.Cluster{Name: "c", Type: config.ClusterEDS, EDSName: "c", ConnectTimeout: time.Nanosecond})
	result := make(chan bool, 1)
	go func() { result <- c.WaitReady(context.Background()) }()

	select {
	case <-result:
		t.Fatal("given up on before the endpoints came")
	case <-time.After(50 * time.Millisecond):
	}
	s.ApplyEndpoints(eds("c", locality(0, at(1))))
	if !<-result {
		t.Error("not ready with endpoints")
	}
}
