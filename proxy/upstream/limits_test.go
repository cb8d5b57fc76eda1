package upstream

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

func limited(l config.Limits) *config.Cluster {
	for _, v := range []*uint32{&l.Connections, &l.Pending, &l.Requests, &l.Retries} {
		if *v == 0 {
			*v = config.NoLimit
		}
	}
	return &config.Cluster{Limits: &l}
}

func TestLimitOfRequests(t *testing.T) {
	m := newMesh(t, limited(config.Limits{Requests: 2}), locality(0, at(1), at(2)))
	a, b := m.endpoint(1), m.endpoint(2)
	a.BeginConn() // carries no requests, and is not held up by others
	if !a.Begin() || b.Begin() {
		t.Error("two may be under way, and no more")
	}
	if n := m.told(EventOverflow); n != 1 {
		t.Errorf("told of %d", n)
	}
	a.End()
	if !b.Begin() {
		t.Error("one that is over still counts")
	}
}

func TestLimitOfConnections(t *testing.T) {
	m := newMesh(t, limited(config.Limits{Connections: 1, Pending: 1}), locality(0, at(1), at(2)))
	a, b := m.endpoint(1), m.endpoint(2)
	var full *OverflowError
	if a.Reserve() != nil || !errors.As(a.Reserve(), &full) {
		t.Fatal("one connection is allowed, and no more")
	}
	if b.Reserve() != nil {
		t.Error("an endpoint without a connection gets its first one, as in Envoy")
	}

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := m.AwaitRoom(ctx); !errors.Is(err, context.Canceled) && err != nil {
		t.Errorf("got %v", err)
	}
	a.Hangup()
	b.Hangup()
	if a.Reserve() != nil {
		t.Error("one that is closed still counts")
	}
}

func TestLimitOfPending(t *testing.T) {
	m := newMesh(t, limited(config.Limits{Pending: 1}), locality(0, at(1)))
	m.spending.pending.Add(1) // somebody waits
	var full *OverflowError
	if err := m.AwaitRoom(t.Context()); !errors.As(err, &full) {
		t.Errorf("a second one waits: %v", err)
	}
	m.spending.pending.Add(-1)

	if err := m.endpoint(1).Reserve(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- m.AwaitRoom(context.Background()) }()
	m.endpoint(1).Hangup()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("who waits is not woken")
	}
}
