package dns

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/api"
)

func entryOf(t testing.TB, namespace, name, created, spec string) *api.Object {
	t.Helper()
	raw, err := yaml.YAMLToJSON(fmt.Appendf(nil, "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {namespace: %s, name: %s, creationTimestamp: '%s'}\nspec: %s\n", namespace, name, created, spec))
	if err != nil {
		t.Fatal(err)
	}
	obj, err := api.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	return obj
}

const ports = "ports: [{number: 8000, name: http, protocol: HTTP}]"

func TestHosts(t *testing.T) {
	old, young := "2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z"
	alloc := entryOf(t, "foo", "none", old, "{hosts: [alloc.bar.global], resolution: DNS, location: MESH_INTERNAL, endpoints: [{address: gw.example}], "+ports+"}")
	hosts := Hosts([]*api.Object{
		entryOf(t, "foo", "young", young, "{hosts: [both.bar.global], addresses: [240.0.0.9, 240.0.0.1], resolution: DNS, endpoints: [{address: gw.example}], location: MESH_INTERNAL, "+ports+"}"),
		entryOf(t, "foo", "old", old, "{hosts: [both.bar.global, HTTPBIN.bar.global.], addresses: [240.0.0.1, 'fd00::1', 10.0.0.0/8, 10.1.1.1/32], resolution: STATIC, endpoints: [{address: 203.0.113.9}], location: MESH_INTERNAL, "+ports+"}"),
		alloc,
		entryOf(t, "foo", "wild", old, "{hosts: ['*.wild.global'], addresses: [240.0.0.2], resolution: NONE, location: MESH_INTERNAL, "+ports+"}"),
		entryOf(t, "foo", "passed", old, "{hosts: [passed.example.com], resolution: NONE, location: MESH_EXTERNAL, "+ports+"}"),
	}, api.Estate{})
	addr := netip.MustParseAddr
	want := []Host{
		{"*.wild.global", []netip.Addr{addr("240.0.0.2")}},
		{"alloc.bar.global", []netip.Addr{api.Settle([]*api.Object{alloc}, api.Estate{})[alloc].Allocated["alloc.bar.global"]}},
		{"both.bar.global", []netip.Addr{addr("240.0.0.1"), addr("fd00::1"), addr("10.1.1.1"), addr("240.0.0.9")}},
		{"httpbin.bar.global", []netip.Addr{addr("240.0.0.1"), addr("fd00::1"), addr("10.1.1.1")}},
		{"passed.example.com", nil},
	}
	if d := cmp.Diff(want, hosts, cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Error(d)
	}
}

// TestHostsHaveOneOwner: nobody else adds to a name, or answers for those below
// a suffix without having exported it to all.
func TestHostsHaveOneOwner(t *testing.T) {
	const first, second = "2020-01-01T00:00:00Z", "2026-01-01T00:00:00Z"
	internal := ", resolution: DNS, endpoints: [{address: gw.example}], location: MESH_INTERNAL, " + ports + "}"
	refused := entryOf(t, "tenant", "refused", first, "{hosts: [refused.bar.global], addresses: [203.0.113.71]"+internal)
	refused.Status.Refused = true
	table := NewTable(Hosts([]*api.Object{
		entryOf(t, "shop", "httpbin-bar", first, "{hosts: [httpbin.bar.global], addresses: [240.0.0.2]"+internal),
		entryOf(t, "tenant", "evil", second, "{hosts: [httpbin.bar.global], addresses: [203.0.113.66], exportTo: ['.']"+internal),
		entryOf(t, "tenant", "evil-too", second, "{hosts: [httpbin.bar.global], addresses: [203.0.113.66]"+internal),
		entryOf(t, "tenant", "wild", second, "{hosts: ['*.bar.global'], addresses: [203.0.113.67], exportTo: ['.']"+internal),
		entryOf(t, "tenant", "older", first, "{hosts: [web.shop.global], addresses: [203.0.113.68]"+internal),
		entryOf(t, "shop", "younger", second, "{hosts: [web.shop.global], addresses: [240.0.0.3]"+internal),
		entryOf(t, "tenant", "own", second, "{hosts: [own.tenant.global], addresses: [240.0.0.4, 203.0.113.69], exportTo: ['.']"+internal),
		entryOf(t, "tenant", "svc", second, "{hosts: [web.shop.svc.cluster.local], addresses: [203.0.113.70]"+internal),
		refused,
	}, api.Estate{}))
	for name, want := range map[string][]netip.Addr{
		"httpbin.bar.global":         {netip.MustParseAddr("240.0.0.2")},
		"new.bar.global":             nil,
		"web.shop.global":            {netip.MustParseAddr("240.0.0.3")},
		"own.tenant.global":          {netip.MustParseAddr("240.0.0.4")},
		"web.shop.svc.cluster.local": nil,
		"refused.bar.global":         nil,
	} {
		got, _, _ := table.Lookup(name)
		if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestLookup(t *testing.T) {
	one, two := []netip.Addr{netip.MustParseAddr("240.0.0.1")}, []netip.Addr{netip.MustParseAddr("240.0.0.2")}
	table := NewTable([]Host{{"httpbin.bar.global", one}, {"*.bar.global", two}, {"*.deep.bar.global", one}, {"bare.global", nil}, {"*-part.bar.global", one}})
	for name, want := range map[string]struct {
		addrs        []netip.Addr
		host, exists bool
	}{
		"httpbin.bar.global":   {one, true, true},
		"x.bar.global":         {two, true, true},
		"x.y.bar.global":       {two, true, true},
		"x.httpbin.bar.global": {two, true, true},
		"x.deep.bar.global":    {one, true, true},
		"deep.bar.global":      {two, true, true},
		"bar.global":           {nil, false, true},
		"global":               {nil, false, true},
		"bare.global":          {nil, true, true},
		"other.global":         {nil, false, false},
		"bar.local":            {nil, false, false},
		"":                     {nil, false, false},
	} {
		addrs, host, exists := table.Lookup(name)
		if d := cmp.Diff(want.addrs, addrs, cmpopts.EquateComparable(netip.Addr{})); d != "" || host != want.host || exists != want.exists {
			t.Errorf("%q: %v host=%v exists=%v, want %+v", name, addrs, host, exists, want)
		}
	}
	if table.Len() != 4 {
		t.Errorf("Len %d", table.Len())
	}
}
