package fleet_test

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/bench/controlplane"
	"github.com/isthmus-mesh/isthmus/bench/fleet"
	"github.com/isthmus-mesh/isthmus/test/leak"
	"github.com/isthmus-mesh/isthmus/test/rig/mesh"
	"github.com/isthmus-mesh/isthmus/test/rig/meter"
	"github.com/isthmus-mesh/isthmus/test/rig/pki"
)

// server is a discovery server in this process.
type server struct {
	cfg   mesh.Config
	stop  context.CancelFunc
	ended chan error
}

func start(t *testing.T, cfg mesh.Config) *server {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	s := &server{cfg: cfg, stop: stop, ended: make(chan error, 1)}
	listening := make(chan struct{}, 3)
	listen := func(addr string) (net.Listener, error) {
		l, err := net.Listen("tcp", addr)
		listening <- struct{}{}
		return l, err
	}
	go func() { s.ended <- mesh.Run(ctx, cfg, slog.New(slog.DiscardHandler), listen) }()
	for range cap(listening) {
		select {
		case <-listening:
		case err := <-s.ended:
			t.Fatal(err)
		}
	}
	return s
}

func (s *server) end(t *testing.T) {
	t.Helper()
	s.stop()
	if err := <-s.ended; err != nil {
		t.Fatal(err)
	}
}

func config(t *testing.T) mesh.Config {
	t.Helper()
	cfg := mesh.Config{Scene: mesh.Scene{Services: 12, Endpoints: 3}, RootDir: t.TempDir()}
	root, err := pki.NewRoot()
	if err != nil {
		t.Fatal(err)
	}
	if err := root.Save(cfg.RootDir); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []*string{&cfg.Plain, &cfg.TLS, &cfg.Control} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		*addr = l.Addr().String()
		_ = l.Close()
	}
	return cfg
}

// TestFleet connects proxies, changes the mesh under them, and restarts the
// server.
func TestFleet(t *testing.T) {
	defer leak.None(t)
	cfg := config(t)
	s := start(t, cfg)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	const count = 5
	fleetCtx, stop := context.WithCancel(ctx)
	f, gone := fleet.Start(fleetCtx, fleet.Config{Address: cfg.Plain, Count: count, Node: controlplane.Node("bench", mesh.Cluster)})
	defer func() {
		stop()
		<-gone
	}()
	if _, err := f.Synced(ctx); err != nil {
		t.Fatal(err)
	}
	first := f.Traffic()
	// Clusters, endpoints, listeners, and the route configuration of port 80 with a
	// virtual host for each.
	if first.Connects != count || first.Resources < count*(12+12+2+1+12) || first.Bytes == 0 {
		t.Fatalf("%+v", first)
	}

	dial := func(addr string) (net.Conn, error) { return net.Dial("tcp", addr) }
	change := func(body string, w *fleet.Watch) fleet.Traffic {
		t.Helper()
		before := f.Traffic()
		if _, err := meter.Post(ctx, dial, "http://"+cfg.Control+"/change", []byte(body)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		return f.Traffic().Sub(before)
	}
	d := change(`{"Kind":"endpoint","N":3}`, f.WatchEndpoints(mesh.EndpointsName(3)))
	if d.Resources != count || d.Pushes != count {
		t.Errorf("one endpoint changed: %+v; want one resource in one push for each of %d proxies", d, count)
	}
	change(`{"Kind":"entry","N":1}`, f.WatchHosts("80/"+mesh.EntryHost(1)))
	change(`{"Kind":"restart","N":6}`, f.WatchEndpoints(mesh.EndpointsName(1)))

	s.end(t)
	s = start(t, cfg)
	defer s.end(t)
	for f.Traffic().Connects < 2*count && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	if _, err := f.Synced(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestNoServer(t *testing.T) {
	defer leak.None(t)
	cfg := config(t)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	f, gone := fleet.Start(ctx, fleet.Config{Address: cfg.Plain, Count: 2, Node: controlplane.Node("bench", mesh.Cluster)})
	if _, err := f.Synced(ctx); err == nil {
		t.Error("proxies are in sync with nobody")
	}
	<-gone
}
