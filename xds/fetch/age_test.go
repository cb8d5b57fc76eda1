package fetch_test

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
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/test/leak"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/fetch"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// clusters is a source whose one view holds clusters that the test edits.
type clusters struct {
	mu      sync.Mutex
	res     map[string]*serve.Resource
	changed chan struct{}
}

func (c *clusters) View(context.Context, serve.Node) (serve.View, <-chan struct{}, error) {
	return c, make(chan struct{}), nil
}

func (*clusters) Key() string { return "clusters" }

func (c *clusters) Resources(typeURL string, _ []string) (serve.Set, <-chan struct{}, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]*serve.Resource{}
	if typeURL == xds.TypeCluster {
		for n, r := range c.res {
			out[n] = r
		}
	}
	return serve.NewSet(out), c.changed, nil
}

// set gives a cluster a version, or removes it for version "".
func (c *clusters) set(name, version string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.res, name)
	if version != "" {
		c.res[name] = &serve.Resource{Name: name, Version: version, Body: &anypb.Any{TypeUrl: xds.TypeCluster}}
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// tally is a handler that keeps what is in force, and counts what came twice.
type tally struct {
	mu       sync.Mutex
	versions map[string]string
	again    int
}

func (t *tally) Apply(typeURL string, added []fetch.Resource, removed []string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range added {
		if t.versions[r.Name] == r.Version {
			t.again++
		}
		t.versions[r.Name] = r.Version
	}
	for _, n := range removed {
		delete(t.versions, n)
	}
	return nil
}

func (*tally) Wanted(string) []string         { return nil }
func (*tally) WantedChanged() <-chan struct{} { return nil }

// Discovery ends its streams and connections when they are old (GOAWAY). A
// proxy goes on with what it has, opens another, and is sent what has changed
// in between: nothing less, and nothing more.
func TestOldConnectionsAreReplacedWithoutLoss(t *testing.T) {
	src := &clusters{res: map[string]*serve.Resource{}, changed: make(chan struct{})}
	src.set("stays", "1")
	srv := serve.New(src, nil, serve.Config{AllowPlaintext: true, MaxAge: 150 * time.Millisecond})
	g := grpc.NewServer(srv.GRPCOptions()...)
	srv.Register(g)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &tally{versions: map[string]string{}}
	c, err := fetch.New(fetch.Config{
		Address: lis.Addr().String(), Handler: h,
		Node: &corev3.Node{Id: "sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local"},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = g.Serve(lis) })
	all.Go(func() { _ = srv.Run(ctx) })
	all.Go(func() { _ = c.Run(ctx) })
	defer func() {
		cancel()
		g.Stop()
		all.Wait()
		leak.None(t)
	}()

	for i := range 40 {
		src.set("changes", fmt.Sprint(i))
		src.set(fmt.Sprint("comes-", i), "1")
		if i > 0 {
			src.set(fmt.Sprint("comes-", i-1), "")
		}
		time.Sleep(50 * time.Millisecond)
	}
	const want = "map[changes:39 comes-39:1 stays:1]"
	got := ""
	for deadline := time.Now().Add(20 * time.Second); got != want; time.Sleep(time.Millisecond) {
		h.mu.Lock()
		got = fmt.Sprint(h.versions)
		h.mu.Unlock()
		if time.Now().After(deadline) {
			t.Fatalf("in force: %s, want %s", got, want)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.again > 0 {
		t.Errorf("%d resources were sent again unchanged", h.again)
	}
	if err := c.Err(); err != nil && !strings.Contains(err.Error(), "in good order") {
		t.Error(err)
	}
}
