package resources

import (
	"context"
	"slices"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// byLabels is a VirtualService of web that answers clients with the labels, and leads
// others to it.
func byLabels(namespace string, exportTo []string, labels map[string]string) *model.VirtualService {
	return &model.VirtualService{
		Cluster: testCluster, Namespace: namespace, Name: "v", Hosts: []string{webHost}, ExportTo: exportTo,
		HTTP: []model.HTTPRoute{
			{Name: "labelled", Matches: []model.HTTPMatch{{Labels: labels}}, Direct: &model.DirectResponse{Status: 418}},
			{Name: "others", Destinations: []model.WeightedDestination{{Host: webHost, Weight: 1}}},
		},
	}
}

// routeNames are those of web's routes, as a view's clients are told.
func routeNames(m *mesh, v serve.View) []string {
	m.t.Helper()
	msg, err := m.resources(v, xds.TypeRoute, "80")["80"].Body.UnmarshalNew()
	if err != nil {
		m.t.Fatal(err)
	}
	var out []string
	for _, host := range msg.(*routev3.RouteConfiguration).VirtualHosts {
		if slices.Contains(host.Domains, webHost) {
			for _, r := range host.Routes {
				out = append(out, r.Name)
			}
		}
	}
	return out
}

// TestSourceLabels: proxies share a View until a condition asks for labels in which they
// differ, and are told when one does, and when none does any more.
func TestSourceLabels(t *testing.T) {
	m := newMesh(t)
	bookinfo(m)
	pod := func(name string, labels map[string]string) serve.Node {
		insert(m, m.store.Workloads, &model.Workload{Cluster: testCluster, Namespace: "client", Name: name, Labels: labels})
		return node("sidecar", "client", name, nil)
	}
	one := pod("c-1", map[string]string{"version": "v1", "tier": "front", "more": "1"})
	two := pod("c-2", map[string]string{"version": "v2", "tier": "front"})
	three := pod("c-3", map[string]string{"version": "v3"})
	if m.view(one) != m.view(two) {
		t.Error("proxies with other labels have two Views for nothing")
	}

	ctx, cancel := context.WithCancel(m.ctx)
	defer cancel()
	changed := m.nextView(ctx, one)
	insert(m, m.store.Virtuals, byLabels("shop", nil, map[string]string{"tier": "front", "version": "v1"}))
	waitFor(t, changed)
	if m.view(two) != m.view(three) || m.view(one) == m.view(two) {
		t.Error("those whose labels nobody asks for do not share, or those that differ do")
	}
	if got := routeNames(m, m.view(one)); !slices.Equal(got, []string{"labelled", "others"}) {
		t.Errorf("whom the condition means has %v", got)
	}
	if got := routeNames(m, m.view(two)); !slices.Equal(got, []string{"others"}) {
		t.Errorf("whom it does not mean has %v", got)
	}

	// A pod's labels change.
	changed = m.nextView(ctx, two)
	pod("c-2", map[string]string{"version": "v1", "tier": "front", "more": "2"})
	waitFor(t, changed)
	if m.view(two) != m.view(one) {
		t.Error("a pod that has the labels now does not share with one that had them")
	}

	// What the condition asks for changes.
	changed = m.nextView(ctx, three)
	insert(m, m.store.Virtuals, byLabels("shop", nil, map[string]string{"version": "v3"}))
	waitFor(t, changed)
	if got := routeNames(m, m.view(three)); !slices.Equal(got, []string{"labelled", "others"}) {
		t.Errorf("whom the condition means now has %v", got)
	}
	if m.view(two) != m.view(one) {
		t.Error("those whom it no longer means do not share")
	}

	// Nobody's rule makes proxies differ that are not told of it.
	changed = m.nextView(ctx, three)
	insert(m, m.store.Virtuals, byLabels("shop", []string{"shop"}, map[string]string{"version": "v3"}))
	waitFor(t, changed)
	if m.view(three) != m.view(one) {
		t.Error("a rule that is not shown to the namespace makes its proxies differ")
	}
}

// TestTraits: conditions are told apart whatever labels are called.
func TestTraits(t *testing.T) {
	v := &virtuals{selecting: []*model.VirtualService{
		byLabels("shop", nil, map[string]string{"a": "b"}),
		byLabels("shop", nil, map[string]string{"a": "b", "c": "d"}),
		byLabels("shop", nil, map[string]string{"a": "b", "c": ""}),
		byLabels("shop", []string{"shop"}, map[string]string{"c": "d"}),
	}}
	got := v.traits("client", map[string]string{"a": "b", "c": "d"})
	if got != "|a=b|a=b,c=d|" {
		t.Errorf("got %s", got)
	}
	for _, c := range []struct {
		labels map[string]string
		want   bool
	}{
		{map[string]string{"a": "b"}, true},
		{map[string]string{"c": "d", "a": "b"}, true},
		{map[string]string{"a": ""}, false},
		{map[string]string{"c": "d"}, false},
		{nil, true},
	} {
		if got.have(c.labels) != c.want {
			t.Errorf("%v: got %v", c.labels, !c.want)
		}
	}
}
