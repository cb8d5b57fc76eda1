package lbaddr

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// service makes a Service of type LoadBalancer; current and asked may be empty.
func service(name, current, asked string) Service {
	var s Service
	s.Metadata.Namespace, s.Metadata.Name = "ns", name
	s.Spec.Type = "LoadBalancer"
	s.Spec.LoadBalancerIP = asked
	if current != "" {
		s.Status.LoadBalancer.Ingress = []Ingress{{IP: current}}
	}
	return s
}

func TestAssign(t *testing.T) {
	pool := []netip.Addr{ip("10.0.0.1"), ip("10.0.0.2"), ip("10.0.0.3")}
	other := service("other", "", "")
	other.Spec.Type = "ClusterIP"
	class := "example.org/lb"
	foreign := service("foreign", "", "")
	foreign.Spec.LoadBalancerClass = &class
	for _, c := range []struct {
		name     string
		services []Service
		want     map[string]netip.Addr
		without  []string
	}{
		{"lowest first, by name", []Service{service("b", "", ""), service("a", "", "")},
			map[string]netip.Addr{"ns/a": ip("10.0.0.1"), "ns/b": ip("10.0.0.2")}, nil},
		{"what was given stays", []Service{service("a", "", ""), service("b", "10.0.0.1", "")},
			map[string]netip.Addr{"ns/a": ip("10.0.0.2"), "ns/b": ip("10.0.0.1")}, nil},
		{"one address, one service", []Service{service("a", "10.0.0.1", ""), service("b", "10.0.0.1", "")},
			map[string]netip.Addr{"ns/a": ip("10.0.0.1"), "ns/b": ip("10.0.0.2")}, nil},
		{"a wish is granted", []Service{service("a", "", ""), service("b", "", "10.0.0.1")},
			map[string]netip.Addr{"ns/a": ip("10.0.0.2"), "ns/b": ip("10.0.0.1")}, nil},
		{"a wish outside the pool is not", []Service{service("a", "", "192.0.2.1")},
			map[string]netip.Addr{"ns/a": ip("10.0.0.1")}, nil},
		{"an address outside the pool is replaced", []Service{service("a", "192.0.2.1", "")},
			map[string]netip.Addr{"ns/a": ip("10.0.0.1")}, nil},
		{"not ours", []Service{other, foreign}, map[string]netip.Addr{}, nil},
		{"too many", []Service{service("a", "", ""), service("b", "", ""), service("c", "", ""), service("d", "", "")},
			map[string]netip.Addr{"ns/a": pool[0], "ns/b": pool[1], "ns/c": pool[2]}, []string{"ns/d"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, without := assign(pool, c.services)
			if !maps.Equal(got, c.want) || !slices.Equal(without, c.without) {
				t.Errorf("got %v without %v, want %v without %v", got, without, c.want, c.without)
			}
		})
	}
}
