package fetch_test

import (
	"context"
	"errors"
	"net"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/test/leak"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/fetch"
)

// recorder is a handler that keeps what it was given. A resource whose version
// is "bad" is refused.
type recorder struct {
	mu      sync.Mutex
	log     []string
	wanted  map[string][]string
	changed chan struct{}
	news    chan struct{}
}

func newRecorder() *recorder {
	return &recorder{wanted: map[string][]string{}, changed: make(chan struct{}), news: make(chan struct{}, 100)}
}

func (r *recorder) Apply(typeURL string, added []fetch.Resource, removed []string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	line := typeURL[strings.LastIndexByte(typeURL, '.')+1:]
	bad := map[string]error{}
	for _, a := range added {
		line += " +" + a.Name + "=" + a.Version
		if a.Version == "bad" {
			bad[a.Name] = errors.New("version: is bad")
		}
	}
	for _, n := range removed {
		line += " -" + n
	}
	r.log = append(r.log, line)
	r.news <- struct{}{}
	if len(bad) > 0 {
		return &fetch.RejectError{Reasons: bad}
	}
	return nil
}

func (r *recorder) Wanted(typeURL string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.wanted[typeURL]
}

func (r *recorder) WantedChanged() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

func (r *recorder) want(typeURL string, names ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wanted[typeURL] = names
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *recorder) next(t *testing.T) string {
	t.Helper()
	select {
	case <-r.news:
	case <-time.After(20 * time.Second):
		t.Fatal("no update was applied")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	line := r.log[0]
	r.log = r.log[1:]
	return line
}

// script is a discovery server that a test plays by hand.
type script struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	streams chan *played
}

type played struct {
	rpc  discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
	in   chan *discoveryv3.DeltaDiscoveryRequest
	hang chan struct{}
}

func (s *script) DeltaAggregatedResources(rpc discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	p := &played{rpc: rpc, in: make(chan *discoveryv3.DeltaDiscoveryRequest, 100), hang: make(chan struct{})}
	s.streams <- p
	go func() {
		for {
			m, err := rpc.Recv()
			if err != nil {
				return
			}
			p.in <- m
		}
	}()
	select {
	case <-p.hang:
	case <-rpc.Context().Done():
	}
	return nil
}

// describe writes a request as a line.
func describe(m *discoveryv3.DeltaDiscoveryRequest) string {
	line := m.TypeUrl[strings.LastIndexByte(m.TypeUrl, '.')+1:]
	if m.Node != nil {
		line = "node " + line
	}
	for _, n := range m.ResourceNamesSubscribe {
		line += " +" + n
	}
	for _, n := range m.ResourceNamesUnsubscribe {
		line += " -" + n
	}
	var have []string
	for n, v := range m.InitialResourceVersions {
		have = append(have, " "+n+"="+v)
	}
	sort.Strings(have)
	line += strings.Join(have, "")
	if m.ErrorDetail != nil {
		line += " nack " + m.ResponseNonce + ": " + m.ErrorDetail.Message
	} else if m.ResponseNonce != "" {
		line += " ack " + m.ResponseNonce
	}
	return line
}

func (p *played) expect(t *testing.T, lines ...string) {
	t.Helper()
	for _, want := range lines {
		select {
		case m := <-p.in:
			if got := describe(m); got != want {
				t.Fatalf("request %q, want %q", got, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("no request, want %q", want)
		}
	}
}

func (p *played) send(t *testing.T, typeURL, nonce string, items ...string) {
	t.Helper()
	m := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeURL, Nonce: nonce}
	for _, it := range items {
		if name, ok := strings.CutPrefix(it, "-"); ok {
			m.RemovedResources = append(m.RemovedResources, name)
			continue
		}
		name, version, _ := strings.Cut(it, "=")
		m.Resources = append(m.Resources, &discoveryv3.Resource{Name: name, Version: version, Resource: &anypb.Any{TypeUrl: typeURL}})
	}
	if err := p.rpc.Send(m); err != nil {
		t.Fatal(err)
	}
}

// start runs a client against a scripted server.
func start(t *testing.T, h fetch.Handler) (*script, *fetch.Client) {
	t.Helper()
	return startWith(t, fetch.Config{Handler: h})
}

func startWith(t *testing.T, cfg fetch.Config) (*script, *fetch.Client) {
	t.Helper()
	srv := &script{streams: make(chan *played, 10)}
	g := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, srv)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go g.Serve(lis)
	cfg.Address, cfg.Node = lis.Addr().String(), &corev3.Node{Id: "n"}
	c, err := fetch.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		g.Stop()
		leak.None(t)
	})
	return srv, c
}

// TestNamesOnlyWhenAsked: whoever answers DNS follows the names too, and nobody else
// is sent them.
func TestNamesOnlyWhenAsked(t *testing.T) {
	h := newRecorder()
	srv, _ := startWith(t, fetch.Config{Handler: h, Names: true})
	p := <-srv.streams
	p.expect(t, "node Cluster", "Listener", "NameTable +*")
	p.send(t, xds.TypeNameTable, "n1", "names=1")
	if got := h.next(t); got != "NameTable +names=1" {
		t.Error(got)
	}
	p.expect(t, "NameTable ack n1")

	close(p.hang)
	p = <-srv.streams
	p.expect(t, "node Cluster", "Listener", "NameTable +* names=1")
}

func TestSubscribeAckNackReconnect(t *testing.T) {
	h := newRecorder()
	srv, c := start(t, h)
	p := <-srv.streams
	p.expect(t, "node Cluster", "Listener")
	p.send(t, xds.TypeCluster, "n1", "a=1", "b=bad", "c=1")
	if got := h.next(t); got != "Cluster +a=1 +b=bad +c=1" {
		t.Error(got)
	}
	p.expect(t, "Cluster nack n1: b: version: is bad")

	h.want(xds.TypeEndpoint, "c", "a", "a")
	p.expect(t, "ClusterLoadAssignment +a +c")
	p.send(t, xds.TypeEndpoint, "n2", "a=7", "c=8", "stranger=1")
	if got := h.next(t); got != "ClusterLoadAssignment +a=7 +c=8" {
		t.Error(got)
	}
	p.expect(t, "ClusterLoadAssignment ack n2")
	h.want(xds.TypeEndpoint, "a", "d")
	p.expect(t, "ClusterLoadAssignment +d -c")
	if err := c.Err(); err != nil {
		t.Error(err)
	}

	close(p.hang) // discovery goes away and comes back
	p = <-srv.streams
	p.expect(t, "node Cluster a=1 c=1", "ClusterLoadAssignment +a +d a=7", "Listener")
	p.send(t, xds.TypeCluster, "m1", "-a")
	if got := h.next(t); got != "Cluster -a" {
		t.Error(got)
	}
	p.expect(t, "Cluster ack m1")
	p.send(t, xds.TypeListener, "m2")
	if got := h.next(t); got != "Listener" {
		t.Error(got)
	}
	p.expect(t, "Listener ack m2")
}

// TestVirtualHostsByRouteConfiguration: virtual hosts are asked for, taken and given up
// by the name of their route configuration.
func TestVirtualHostsByRouteConfiguration(t *testing.T) {
	h := newRecorder()
	srv, _ := start(t, h)
	p := <-srv.streams
	p.expect(t, "node Cluster", "Listener")
	h.want(xds.TypeVirtualHost, "80", "81")
	p.expect(t, "VirtualHost +80 +81")
	p.send(t, xds.TypeVirtualHost, "n1", "80/a=1", "80/b=bad", "81/a=1", "82/a=1", "-82")
	if got := h.next(t); got != "VirtualHost +80/a=1 +80/b=bad +81/a=1" {
		t.Error(got)
	}
	p.expect(t, "VirtualHost nack n1: 80/b: version: is bad")
	p.send(t, xds.TypeVirtualHost, "n2", "80/b=2", "-81")
	if got := h.next(t); got != "VirtualHost +80/b=2 -81" {
		t.Error(got)
	}
	p.expect(t, "VirtualHost ack n2")

	h.want(xds.TypeVirtualHost, "80")
	p.expect(t, "VirtualHost -81")
	close(p.hang)
	p = <-srv.streams
	p.expect(t, "node Cluster", "Listener", "VirtualHost +80 80/a=1 80/b=2")
}

func TestUnreachable(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := lis.Addr().String()
	lis.Close()
	c, err := fetch.New(fetch.Config{Address: addr, Node: &corev3.Node{Id: "n"}, Handler: newRecorder()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	defer func() {
		cancel()
		<-done
		leak.None(t)
	}()
	deadline := time.Now().Add(20 * time.Second)
	for !strings.Contains(c.Err().Error(), "connection refused") {
		if time.Now().After(deadline) {
			t.Fatalf("status says %q", c.Err())
		}
		time.Sleep(10 * time.Millisecond)
	}
	if !strings.HasPrefix(c.Err().Error(), "cannot reach discovery "+addr+": ") {
		t.Errorf("status says %q", c.Err())
	}
}

func TestMalformedUpdateIsRefusedWhole(t *testing.T) {
	h := newRecorder()
	srv, _ := start(t, h)
	p := <-srv.streams
	p.expect(t, "node Cluster", "Listener")
	p.send(t, xds.TypeCluster, "n1", "a=1", "a=2")
	p.expect(t, "Cluster nack n1: a: twice in one update")
	if len(h.log) != 0 {
		t.Errorf("applied %v", h.log)
	}
}

func TestRejectErrorIsInOrder(t *testing.T) {
	e := &fetch.RejectError{Reasons: map[string]error{"b": errors.New("2"), "a": errors.New("1")}}
	if got := e.Error(); got != "a: 1; b: 2" {
		t.Error(got)
	}
	many := &fetch.RejectError{Reasons: map[string]error{}}
	for i := range 1000 {
		many.Reasons[strings.Repeat("x", 20)+string(rune('a'+i%26))+string(rune('a'+i/26))] = errors.New("bad")
	}
	if got := many.Error(); len(got) > 2300 || !strings.Contains(got, " more") {
		t.Errorf("%d bytes", len(got))
	}
}
