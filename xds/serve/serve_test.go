package serve_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/test/leak"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// tableView is a View over a map that tests edit.
type tableView struct {
	key   string
	asked atomic.Int64

	mu      sync.Mutex
	res     map[string]map[string]*serve.Resource
	changed map[string]chan struct{}
}

func newTable(key string) *tableView {
	return &tableView{key: key, res: map[string]map[string]*serve.Resource{}, changed: map[string]chan struct{}{}}
}

func (v *tableView) Key() string { return v.key }

func (v *tableView) Resources(typeURL string, names []string) (serve.Set, <-chan struct{}, error) {
	v.asked.Add(1)
	v.mu.Lock()
	defer v.mu.Unlock()
	out := map[string]*serve.Resource{}
	for n, r := range v.res[typeURL] {
		if names == nil || has(names, n) {
			out[n] = r
		}
	}
	return serve.NewSet(out), v.channel(typeURL), nil
}

func (v *tableView) channel(typeURL string) chan struct{} {
	if v.changed[typeURL] == nil {
		v.changed[typeURL] = make(chan struct{})
	}
	return v.changed[typeURL]
}

// edit sets name to version, or removes it for version "".
func (v *tableView) edit(typeURL string, pairs ...string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.res[typeURL] == nil {
		v.res[typeURL] = map[string]*serve.Resource{}
	}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			delete(v.res[typeURL], pairs[i])
			continue
		}
		v.res[typeURL][pairs[i]] = &serve.Resource{Name: pairs[i], Version: pairs[i+1],
			Body: &anypb.Any{TypeUrl: typeURL, Value: []byte("\x0a\x01" + pairs[i+1][:1])}}
	}
	close(v.channel(typeURL))
	delete(v.changed, typeURL)
}

// tableSource gives every node one view, which tests exchange.
type tableSource struct {
	mu      sync.Mutex
	view    serve.View
	changed chan struct{}
}

func (s *tableSource) View(context.Context, serve.Node) (serve.View, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view, s.changed, nil
}

func (s *tableSource) set(v serve.View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.view, s.changed = v, make(chan struct{})
}

type fixedAuth struct {
	id      identity.ID
	cluster string
}

func (a fixedAuth) Authenticate(context.Context) (identity.Proof, error) {
	return identity.Proof{ID: a.id, Cluster: a.cluster}, nil
}

type rig struct {
	t    testing.TB
	srv  *serve.Server
	src  *tableSource
	conn *grpc.ClientConn
	stop context.CancelFunc
	done chan error
}

const nodeID = "sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local"

func newRig(t testing.TB, v serve.View, auth serve.Authenticator) *rig {
	t.Helper()
	return newRigWith(t, v, auth, serve.Config{})
}

// newRigWith takes streams in plaintext when there is no Authenticator.
func newRigWith(t testing.TB, v serve.View, auth serve.Authenticator, cfg serve.Config) *rig {
	t.Helper()
	src := &tableSource{view: v, changed: make(chan struct{})}
	r := newRigFor(t, src, auth, cfg)
	r.src = src
	return r
}

func newRigFor(t testing.TB, src serve.Source, auth serve.Authenticator, cfg serve.Config, more ...grpc.ServerOption) *rig {
	t.Helper()
	r := &rig{t: t, done: make(chan error, 1)}
	cfg.AllowPlaintext = auth == nil
	r.srv = serve.New(src, auth, cfg)
	g := grpc.NewServer(append(r.srv.GRPCOptions(), more...)...)
	r.srv.Register(g)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go g.Serve(lis)
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	go func() { r.done <- r.srv.Run(ctx) }()
	r.conn, err = grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		<-r.done
		r.conn.Close()
		g.Stop()
		if _, ok := t.(*testing.T); ok {
			leak.None(t)
		}
	})
	return r
}

// client is one delta stream.
type client struct {
	t   testing.TB
	rpc discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	in  chan *discoveryv3.DeltaDiscoveryResponse
	err chan error
}

func (r *rig) dial() *client {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r.t.Cleanup(cancel)
	rpc, err := discoveryv3.NewAggregatedDiscoveryServiceClient(r.conn).DeltaAggregatedResources(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	c := &client{t: r.t, rpc: rpc, in: make(chan *discoveryv3.DeltaDiscoveryResponse, 16), err: make(chan error, 1)}
	go func() {
		for {
			m, err := rpc.Recv()
			if err != nil {
				c.err <- err
				return
			}
			c.in <- m
		}
	}()
	return c
}

func (c *client) send(req *discoveryv3.DeltaDiscoveryRequest) {
	c.t.Helper()
	req.Node = &corev3.Node{Id: nodeID}
	if err := c.rpc.Send(req); err != nil {
		c.t.Fatal(err)
	}
}

// want receives one answer and compares it: "+name=version" and "-name".
func (c *client) want(typeURL string, items ...string) *discoveryv3.DeltaDiscoveryResponse {
	c.t.Helper()
	select {
	case m := <-c.in:
		got := []string{}
		for _, r := range m.Resources {
			if r.Resource.GetTypeUrl() != typeURL {
				c.t.Errorf("resource %s has type %s", r.Name, r.Resource.GetTypeUrl())
			}
			got = append(got, "+"+r.Name+"="+r.Version)
		}
		for _, n := range m.RemovedResources {
			got = append(got, "-"+n)
		}
		if m.TypeUrl != typeURL || !slices.Equal(got, items) {
			c.t.Fatalf("got %s %v, want %s %v", m.TypeUrl, got, typeURL, items)
		}
		return m
	case err := <-c.err:
		c.t.Fatalf("stream ended: %v; want %s %v", err, typeURL, items)
	case <-time.After(20 * time.Second):
		c.t.Fatalf("no answer, want %s %v", typeURL, items)
	}
	return nil
}

func (c *client) ack(m *discoveryv3.DeltaDiscoveryResponse) {
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: m.TypeUrl, ResponseNonce: m.Nonce})
}

func (c *client) quiet() {
	c.t.Helper()
	select {
	case m := <-c.in:
		c.t.Fatalf("unexpected answer %v", m)
	case err := <-c.err:
		c.t.Fatalf("stream ended: %v", err)
	case <-time.After(60 * time.Millisecond):
	}
}

func TestDeltaSendsOnlyWhatChanged(t *testing.T) {
	v := newTable("v")
	v.edit(xds.TypeCluster, "a", "1", "b", "1")
	c := newRig(t, v, nil).dial()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.TypeCluster})
	c.ack(c.want(xds.TypeCluster, "+a=1", "+b=1"))
	v.edit(xds.TypeCluster, "b", "2")
	c.ack(c.want(xds.TypeCluster, "+b=2"))
	v.edit(xds.TypeCluster, "b", "2")
	c.quiet()
	v.edit(xds.TypeCluster, "a", "")
	c.ack(c.want(xds.TypeCluster, "-a"))
	c.quiet()
}

// TestNameTables: a proxy gives no name, as Istio's do, and gets the one that it has.
func TestNameTables(t *testing.T) {
	v := newTable("v")
	v.edit(xds.TypeNameTable, "names", "1")
	c := newRig(t, v, nil).dial()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.TypeNameTable})
	c.ack(c.want(xds.TypeNameTable, "+names=1"))
	v.edit(xds.TypeNameTable, "names", "2")
	c.ack(c.want(xds.TypeNameTable, "+names=2"))
	c.quiet()
}

func TestDeltaNames(t *testing.T) {
	v := newTable("v")
	v.edit(xds.TypeEndpoint, "a", "1", "b", "1", "c", "1")
	c := newRig(t, v, nil).dial()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.TypeEndpoint, ResourceNamesSubscribe: []string{"a", "nix"}})
	m := c.want(xds.TypeEndpoint, "+a=1", "-nix")
	// The acknowledgement and a change of names in one request.
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.TypeEndpoint, ResponseNonce: m.Nonce,
		ResourceNamesSubscribe: []string{"b", "b"}, ResourceNamesUnsubscribe: []string{"a"}})
	c.ack(c.want(xds.TypeEndpoint, "+b=1"))
	v.edit(xds.TypeEndpoint, "a", "2", "c", "2")
	c.quiet()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.TypeEndpoint, ResourceNamesSubscribe: []string{"b"}})
	c.ack(c.want(xds.TypeEndpoint, "+b=1")) // asked for again
	v.edit(xds.TypeEndpoint, "nix", "1")
	c.ack(c.want(xds.TypeEndpoint, "+nix=1"))
}

func TestDeltaReconnect(t *testing.T) {
	v := newTable("v")
	v.edit(xds.TypeCluster, "a", "2", "b", "1")
	c := newRig(t, v, nil).dial()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.TypeCluster,
		InitialResourceVersions: map[string]string{"a": "1", "b": "1", "gone": "1"}})
	c.ack(c.want(xds.TypeCluster, "+a=2", "-gone"))
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.TypeListener})
	c.ack(c.want(xds.TypeListener)) // nothing, but an answer
}

func TestNackIsShownAndNotRepeated(t *testing.T) {
	v := newTable("v")
	v.edit(xds.TypeCluster, "a", "1")
	r := newRig(t, v, nil)
	c := r.dial()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.TypeCluster})
	m := c.want(xds.TypeCluster, "+a=1")
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.TypeCluster, ResponseNonce: m.Nonce,
		ErrorDetail: &rpcstatus.Status{Message: "a: lb_policy: not known"}})
	c.quiet()
	ps := r.srv.Proxies()
	if len(ps) != 1 || ps[0].Proxy != "web-1.shop" || ps[0].View != "v" {
		t.Fatalf("proxies: %+v", ps)
	}
	if st := ps[0].Types["cds"]; st.State != serve.Rejected || st.Error != "a: lb_policy: not known" {
		t.Fatalf("status: %+v", st)
	}
	v.edit(xds.TypeCluster, "a", "2")
	c.ack(c.want(xds.TypeCluster, "+a=2"))
	c.quiet()
	if st := r.srv.Proxies()[0].Types["cds"]; st.State != serve.Synced || st.Error != "" {
		t.Fatalf("status: %+v", st)
	}
}

func TestOrderAndLateRemoval(t *testing.T) {
	v := newTable("v")
	v.edit(xds.TypeCluster, "old", "1")
	v.edit(xds.TypeListener, "l", "1")
	c := newRig(t, v, nil).dial()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.TypeListener})
	c.ack(c.want(xds.TypeListener, "+l=1"))
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.TypeCluster})
	c.ack(c.want(xds.TypeCluster, "+old=1"))
	c.quiet()
	v.edit(xds.TypeListener, "l", "2")
	v.edit(xds.TypeCluster, "old", "", "new", "1")
	m := c.want(xds.TypeCluster, "+new=1")
	l := c.want(xds.TypeListener, "+l=2")
	// A listener of the next round waits for its cluster, which waits for the
	// acknowledgement of the last answer.
	v.edit(xds.TypeListener, "l", "3")
	v.edit(xds.TypeCluster, "newer", "1")
	c.ack(l)
	c.quiet()
	c.ack(m)
	c.ack(c.want(xds.TypeCluster, "+newer=1"))
	c.ack(c.want(xds.TypeListener, "+l=3"))
	c.ack(c.want(xds.TypeCluster, "-old"))
	c.quiet()
}

func TestUnackedChangesCoalesce(t *testing.T) {
	v := newTable("v")
	v.edit(xds.TypeCluster, "a", "1")
	r := newRig(t, v, nil)
	c, other := r.dial(), r.dial()
	for _, c := range []*client{c, other} {
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.TypeCluster})
	}
	m := c.want(xds.TypeCluster, "+a=1")
	other.ack(other.want(xds.TypeCluster, "+a=1"))
	for i := 2; i < 6; i++ {
		v.edit(xds.TypeCluster, "a", fmt.Sprint(i), fmt.Sprint("x", i), "1")
		// What one stream is sent of a View, the others may have.
		other.ack(other.want(xds.TypeCluster, "+a="+fmt.Sprint(i), fmt.Sprint("+x", i, "=1")))
	}
	c.ack(m)
	c.ack(c.want(xds.TypeCluster, "+a=5", "+x2=1", "+x3=1", "+x4=1", "+x5=1"))
	c.quiet()
}

func TestMoveToAnotherView(t *testing.T) {
	v1, v2 := newTable("v1"), newTable("v2")
	v1.edit(xds.TypeCluster, "a", "1", "b", "1")
	v2.edit(xds.TypeCluster, "a", "1", "b", "2", "c", "1")
	r := newRig(t, v1, nil)
	c := r.dial()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.TypeCluster})
	c.ack(c.want(xds.TypeCluster, "+a=1", "+b=1"))
	r.src.set(v1) // the same again
	c.quiet()
	r.src.set(v2)
	c.ack(c.want(xds.TypeCluster, "+b=2", "+c=1"))
	if got := r.srv.Proxies()[0].View; got != "v2" {
		t.Errorf("view %s", got)
	}
}

func TestStreamsShareTheWork(t *testing.T) {
	v := newTable("v")
	v.edit(xds.TypeEndpoint, "a", "1", "b", "1")
	r := newRig(t, v, nil)
	var cs []*client
	for range 20 {
		c := r.dial()
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.TypeEndpoint, ResourceNamesSubscribe: []string{"b", "a"}})
		c.ack(c.want(xds.TypeEndpoint, "+a=1", "+b=1"))
		cs = append(cs, c)
	}
	if n := v.asked.Load(); n != 1 {
		t.Errorf("the view was asked %d times for 20 streams, want once", n)
	}
	v.edit(xds.TypeEndpoint, "b", "2")
	for _, c := range cs {
		c.ack(c.want(xds.TypeEndpoint, "+b=2"))
	}
	if n := v.asked.Load(); n != 2 {
		t.Errorf("the view was asked %d times, want twice", n)
	}
}

func TestRefused(t *testing.T) {
	r := newRig(t, newTable("v"), fixedAuth{id: identity.ID{TrustDomain: "cluster.local", Namespace: "other", ServiceAccount: "s"}})
	c := r.dial()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.TypeCluster})
	select {
	case err := <-c.err:
		if status.Code(err) != codes.PermissionDenied {
			t.Errorf("got %v, want PermissionDenied", err)
		}
	case m := <-c.in:
		t.Errorf("got an answer: %v", m)
	}
}

// TestRefusedOfAnotherCluster: a proxy cannot say that it is of another cluster
// than the one whose API server has confirmed its token.
func TestRefusedOfAnotherCluster(t *testing.T) {
	id := identity.ID{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "s"}
	r := newRig(t, newTable("v"), fixedAuth{id: id, cluster: "c1"})
	for claimed, want := range map[string]codes.Code{"c1": codes.OK, "c2": codes.PermissionDenied, "": codes.PermissionDenied} {
		c := r.dial()
		meta := &structpb.Struct{Fields: map[string]*structpb.Value{"CLUSTER_ID": structpb.NewStringValue(claimed)}}
		err := c.rpc.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: nodeID, Metadata: meta}, TypeUrl: xds.TypeCluster})
		if err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-c.err:
			if status.Code(err) != want {
				t.Errorf("cluster %q: %v, want %s", claimed, err, want)
			}
		case <-c.in:
			if want != codes.OK {
				t.Errorf("cluster %q: it is served", claimed)
			}
		}
	}
}

func TestStopEndsStreams(t *testing.T) {
	v := newTable("v")
	r := newRig(t, v, nil)
	c := r.dial()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.TypeCluster})
	c.ack(c.want(xds.TypeCluster))
	r.stop()
	if err := <-c.err; status.Code(err) != codes.Unavailable {
		t.Errorf("got %v, want Unavailable", err)
	}
}

func TestStateOfTheWorld(t *testing.T) {
	v := newTable("v")
	v.edit(xds.TypeCluster, "a", "1", "b", "1")
	v.edit(xds.TypeEndpoint, "a", "1", "b", "1")
	r := newRig(t, v, nil)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	rpc, err := discoveryv3.NewAggregatedDiscoveryServiceClient(r.conn).StreamAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	send := func(req *discoveryv3.DiscoveryRequest) {
		t.Helper()
		req.Node = &corev3.Node{Id: nodeID}
		if err := rpc.Send(req); err != nil {
			t.Fatal(err)
		}
	}
	recv := func(typeURL string, n int) *discoveryv3.DiscoveryResponse {
		t.Helper()
		m, err := rpc.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if m.TypeUrl != typeURL || len(m.Resources) != n {
			t.Fatalf("got %d of %s, want %d of %s", len(m.Resources), m.TypeUrl, n, typeURL)
		}
		return m
	}
	ack := func(m *discoveryv3.DiscoveryResponse, names ...string) {
		t.Helper()
		send(&discoveryv3.DiscoveryRequest{TypeUrl: m.TypeUrl, VersionInfo: m.VersionInfo, ResponseNonce: m.Nonce, ResourceNames: names})
	}
	send(&discoveryv3.DiscoveryRequest{TypeUrl: xds.TypeCluster})
	ack(recv(xds.TypeCluster, 2))
	send(&discoveryv3.DiscoveryRequest{TypeUrl: xds.TypeEndpoint, ResourceNames: []string{"a", "b"}})
	ack(recv(xds.TypeEndpoint, 2), "a", "b")
	v.edit(xds.TypeCluster, "b", "")
	ack(recv(xds.TypeCluster, 1)) // all that is left
	v.edit(xds.TypeEndpoint, "a", "2")
	m := recv(xds.TypeEndpoint, 1)
	send(&discoveryv3.DiscoveryRequest{TypeUrl: xds.TypeEndpoint, ResponseNonce: "stale", ResourceNames: []string{"c"}})
	ack(m, "a", "b")
	v.edit(xds.TypeCluster, "a", "")
	ack(recv(xds.TypeCluster, 0))
}

// has searches names, which the server passes in order.
func has(names []string, n string) bool {
	_, ok := slices.BinarySearch(names, n)
	return ok
}
