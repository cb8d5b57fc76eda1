package serve_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"

	"github.com/isthmus-mesh/isthmus/test/leak"
	"github.com/isthmus-mesh/isthmus/xds/fetch"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// nothing is a handler that takes everything.
type nothing struct{}

func (nothing) Apply(string, []fetch.Resource, []string) error { return nil }
func (nothing) Wanted(string) []string                         { return nil }
func (nothing) WantedChanged() <-chan struct{}                 { return nil }

// proxies is a server with a number of proxies.
type proxies struct {
	t       *testing.T
	srv     *serve.Server
	clients []*fetch.Client
	stop    func() // the server
}

func startProxies(t *testing.T, count int, farewell time.Duration) *proxies {
	t.Helper()
	t.Cleanup(func() { leak.None(t) })
	f := &proxies{t: t, srv: serve.New(&tableSource{view: newTable("all"), changed: make(chan struct{})}, nil, serve.Config{AllowPlaintext: true, Farewell: farewell})}
	g := grpc.NewServer(f.srv.GRPCOptions()...)
	f.srv.Register(g)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	serving, stop := context.WithCancel(context.Background())
	f.stop = stop
	var all sync.WaitGroup
	all.Go(func() { _ = g.Serve(lis) })
	all.Go(func() { _ = f.srv.Run(serving) })
	for i := range count {
		c, err := fetch.New(fetch.Config{
			Address: lis.Addr().String(), Handler: nothing{},
			Node: &corev3.Node{Id: fmt.Sprintf("sidecar~10.0.0.%d~p-%d.shop~shop.svc.cluster.local", i+1, i)},
		})
		if err != nil {
			t.Fatal(err)
		}
		f.clients = append(f.clients, c)
		all.Go(func() { _ = c.Run(ctx) })
	}
	t.Cleanup(func() {
		cancel()
		stop()
		g.Stop()
		all.Wait()
	})
	f.eventually("all are there", func() bool { return f.srv.Streams() == count && f.connected() == count })
	return f
}

// connected is how many proxies have been answered.
func (f *proxies) connected() (n int) {
	for _, c := range f.clients {
		if c.Err() == nil {
			n++
		}
	}
	return n
}

func (f *proxies) eventually(what string, holds func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatal("never came: " + what)
		}
	}
}

// since tells when each proxy has connected.
func (f *proxies) since() map[string]time.Time {
	out := map[string]time.Time{}
	for _, p := range f.srv.Proxies() {
		out[p.Node] = p.Connected
	}
	return out
}

// TestShed: as many proxies as asked for are sent away, those that came first, and
// none of them for ever.
func TestShed(t *testing.T) {
	f := startProxies(t, 4, 0)
	first, oldest := f.since(), ""
	for node, at := range first {
		if oldest == "" || at.Before(first[oldest]) {
			oldest = node
		}
	}

	// The oldest goes, and then once less often than the others.
	for _, tt := range []struct{ asked, want int }{{1, 1}, {100, 4}, {100, 4}, {100, 3}, {100, 0}} {
		before := f.since()
		if n := f.srv.Shed(tt.asked); n != tt.want {
			t.Fatalf("%d were sent away, want %d", n, tt.want)
		}
		f.eventually("they are there anew", func() bool {
			now, anew := f.since(), 0
			for node, at := range now {
				if at.After(before[node]) {
					anew++
				}
			}
			return len(now) == 4 && anew == tt.want && f.srv.Streams() == 4
		})
		if tt.asked == 1 && !f.since()[oldest].After(first[oldest]) {
			t.Error("another than the oldest was sent away")
		}
	}
}

// TestFarewell: a server that stops ends its streams in good order, one after
// another, and takes no others.
func TestFarewell(t *testing.T) {
	f := startProxies(t, 5, 250*time.Millisecond)
	most := f.srv.Streams()
	f.stop()
	f.eventually("they go one by one", func() bool {
		n := f.srv.Streams()
		if n > most {
			t.Fatalf("%d streams after %d: it has taken another", n, most)
		}
		most = n
		return n == 0
	})
	f.eventually("proxies are turned away", func() bool {
		for _, c := range f.clients {
			if err := c.Err(); err == nil || !strings.Contains(err.Error(), "discovery is stopping") {
				return false
			}
		}
		return true
	})
}
