package serve_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// hostsView is a tableView whose virtual hosts go by their route configurations.
type hostsView struct{ *tableView }

func (v hostsView) Resources(typeURL string, names []string) (serve.Set, <-chan struct{}, error) {
	set, changed, err := v.tableView.Resources(typeURL, nil)
	all := set.Map()
	for name := range all {
		if names != nil && !slices.Contains(names, xds.SubscribedAs(typeURL, name)) {
			delete(all, name)
		}
	}
	return serve.NewSet(all), changed, err
}

func subscribeHosts(names ...string) *discoveryv3.DeltaDiscoveryRequest {
	return &discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.TypeVirtualHost, ResourceNamesSubscribe: names}
}

// TestVirtualHostsByRouteConfiguration: the name of a route configuration stands for
// all its virtual hosts, and only one that has none counts as missing.
func TestVirtualHostsByRouteConfiguration(t *testing.T) {
	v := newTable("v")
	v.edit(xds.TypeVirtualHost, "80/a", "1", "80/b", "1", "81/a", "1")
	c := newRig(t, hostsView{v}, nil).dial()
	c.send(subscribeHosts("80", "82"))
	c.ack(c.want(xds.TypeVirtualHost, "+80/a=1", "+80/b=1", "-82"))

	v.edit(xds.TypeVirtualHost, "80/b", "2", "80/c", "1", "81/a", "2")
	c.ack(c.want(xds.TypeVirtualHost, "+80/b=2", "+80/c=1"))
	v.edit(xds.TypeVirtualHost, "80/a", "", "82/a", "1")
	c.ack(c.want(xds.TypeVirtualHost, "+82/a=1", "-80/a"))

	// One more brings its own alone, and one that is asked for again comes whole.
	c.send(subscribeHosts("81"))
	c.ack(c.want(xds.TypeVirtualHost, "+81/a=2"))
	c.send(subscribeHosts("80"))
	c.ack(c.want(xds.TypeVirtualHost, "+80/b=2", "+80/c=1"))

	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.TypeVirtualHost, ResourceNamesUnsubscribe: []string{"80"}})
	v.edit(xds.TypeVirtualHost, "80/b", "3", "81/a", "3")
	c.ack(c.want(xds.TypeVirtualHost, "+81/a=3"))
	c.quiet()
}

// TestVirtualHostsAfterABreak: whoever says what it has is sent what has changed, of
// the route configurations that it asks for.
func TestVirtualHostsAfterABreak(t *testing.T) {
	v := newTable("v")
	v.edit(xds.TypeVirtualHost, "80/a", "1", "80/b", "2")
	c := newRig(t, hostsView{v}, nil).dial()
	again := subscribeHosts("80", "81")
	again.InitialResourceVersions = map[string]string{"80/a": "1", "80/b": "1", "80/gone": "1", "82/a": "1"}
	c.send(again)
	c.ack(c.want(xds.TypeVirtualHost, "+80/b=2", "-80/gone", "-81"))
	c.quiet()
}

// TestVirtualHostsAreBetweenTheirClusters: one comes after the cluster that it names,
// and goes before it.
func TestVirtualHostsAreBetweenTheirClusters(t *testing.T) {
	v := newTable("v")
	v.edit(xds.TypeCluster, "a", "1")
	v.edit(xds.TypeVirtualHost, "80/a", "1")
	c := newRigWith(t, hostsView{v}, nil, serve.Config{Quiet: 20 * time.Millisecond}).dial()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.TypeCluster})
	c.ack(c.want(xds.TypeCluster, "+a=1"))
	c.send(subscribeHosts("80"))
	c.ack(c.want(xds.TypeVirtualHost, "+80/a=1"))

	// As a rule both are in one push. Should the machine be too busy for that, they are
	// in the right order by themselves.
	v.edit(xds.TypeCluster, "b", "1")
	v.edit(xds.TypeVirtualHost, "80/b", "1")
	c.ack(c.want(xds.TypeCluster, "+b=1"))
	c.ack(c.want(xds.TypeVirtualHost, "+80/b=1"))

	v.edit(xds.TypeVirtualHost, "80/b", "")
	v.edit(xds.TypeCluster, "b", "")
	c.ack(c.want(xds.TypeVirtualHost, "-80/b"))
	c.ack(c.want(xds.TypeCluster, "-b"))
}

// nodes notes the nodes for which a View is asked.
type nodes struct {
	tableSource
	mu   sync.Mutex
	seen []serve.Node
}

func (s *nodes) View(ctx context.Context, n serve.Node) (serve.View, <-chan struct{}, error) {
	s.mu.Lock()
	s.seen = append(s.seen, n)
	s.mu.Unlock()
	return s.tableSource.View(ctx, n)
}

// TestNodeTellsTheForm: a source knows whether the stream is of the delta form, and of
// what a proxy says that it understands, the one thing that makes a difference.
func TestNodeTellsTheForm(t *testing.T) {
	src := &nodes{tableSource: tableSource{view: newTable("v"), changed: make(chan struct{})}}
	r := newRigFor(t, src, nil, serve.Config{})
	node := &corev3.Node{Id: nodeID, ClientFeatures: []string{"other", xds.FeatureVirtualHosts}}

	delta := r.dial()
	if err := delta.rpc.Send(&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: xds.TypeCluster}); err != nil {
		t.Fatal(err)
	}
	delta.want(xds.TypeCluster)
	whole, err := discoveryv3.NewAggregatedDiscoveryServiceClient(r.conn).StreamAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := whole.Send(&discoveryv3.DiscoveryRequest{Node: node, TypeUrl: xds.TypeCluster}); err != nil {
		t.Fatal(err)
	}
	if _, err := whole.Recv(); err != nil {
		t.Fatal(err)
	}

	src.mu.Lock()
	defer src.mu.Unlock()
	for i, wantDelta := range []bool{true, false} {
		n := src.seen[i]
		if n.Delta != wantDelta || !slices.Equal(n.Core.GetClientFeatures(), []string{xds.FeatureVirtualHosts}) {
			t.Errorf("stream %d: delta %v, features %v", i, n.Delta, n.Core.GetClientFeatures())
		}
	}
}
