package listen

import (
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

func named(name string, m config.ChainMatch) *chain {
	return &chain{cfg: &config.FilterChain{Name: name, Match: m, TCP: &config.TCPProxy{}}}
}

func prefixes(s ...string) (out []netip.Prefix) {
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func TestMatchOrder(t *testing.T) {
	m := newMatcher([]*chain{
		named("mtls", config.ChainMatch{DestinationPort: 80, TransportProtocol: "tls", ApplicationProtocols: []string{"istio", "istio-h2"}}),
		named("tls", config.ChainMatch{DestinationPort: 80, TransportProtocol: "tls"}),
		named("http", config.ChainMatch{DestinationPort: 80, TransportProtocol: "raw_buffer", ApplicationProtocols: []string{"http/1.1", "h2c"}}),
		named("strict", config.ChainMatch{DestinationPort: 81, TransportProtocol: "tls", ApplicationProtocols: []string{"istio"}}),
		named("net", config.ChainMatch{PrefixRanges: prefixes("10.0.0.0/8")}),
		named("subnet", config.ChainMatch{PrefixRanges: prefixes("10.1.0.0/16", "fd00::/8")}),
		named("exact", config.ChainMatch{ServerNames: []string{"a.b.global"}}),
		named("below b", config.ChainMatch{ServerNames: []string{"*.b.global"}}),
		named("global", config.ChainMatch{ServerNames: []string{"*.global", "*.local"}}),
		named("any", config.ChainMatch{TransportProtocol: "raw_buffer"}),
	}, named("default", config.ChainMatch{}))
	over := func(sni string, alpn ...string) seen { return seen{hello: hello{sni, alpn}, tls: true} }
	cases := []struct {
		dst  string
		seen seen
		want string
	}{
		{"192.0.2.1:80", over("x", "istio-peer-exchange", "istio"), "mtls"},
		{"192.0.2.1:80", over("x", "h2"), "tls"},
		{"192.0.2.1:80", seen{http: config.ProtocolHTTP1}, "http"},
		{"192.0.2.1:80", seen{http: config.ProtocolHTTP2}, "http"},
		{"192.0.2.1:80", seen{http: config.ProtocolTCP}, "default"}, // no way back to "any"
		{"192.0.2.1:81", seen{}, "default"},
		{"192.0.2.1:81", over("", "istio"), "strict"},
		{"10.2.0.1:9", over("a.b.global"), "net"},
		{"10.1.2.3:9", seen{}, "subnet"},
		{"[fd00::1]:9", seen{}, "subnet"},
		{"192.0.2.1:9", over("a.b.global"), "exact"},
		{"192.0.2.1:9", over("c.b.global"), "below b"},
		{"192.0.2.1:9", over("d.c.b.global"), "below b"},
		{"192.0.2.1:9", over("b.global"), "global"},
		{"192.0.2.1:9", over("x.local"), "global"},
		{"192.0.2.1:9", over("global"), "default"},
		{"192.0.2.1:9", over(""), "default"},
		{"192.0.2.1:9", seen{}, "any"},
	}
	for _, c := range cases {
		got := m.find(netip.MustParseAddrPort(c.dst), &c.seen)
		if got == nil || got.cfg.Name != c.want {
			t.Errorf("%s %+v: got %v, want %s", c.dst, c.seen, got, c.want)
		}
	}
}

func TestMatchNothing(t *testing.T) {
	m := newMatcher([]*chain{named("a", config.ChainMatch{ServerNames: []string{"a"}})}, nil)
	if c := m.find(netip.MustParseAddrPort("192.0.2.1:9"), &seen{}); c != nil {
		t.Errorf("got chain %q", c.cfg.Name)
	}
}

// TestMatchInspect: connections whose chain does not depend on their first
// bytes are not made to wait for them.
func TestMatchInspect(t *testing.T) {
	m := newMatcher([]*chain{
		named("plain", config.ChainMatch{DestinationPort: 25}),
		named("tls", config.ChainMatch{DestinationPort: 443, TransportProtocol: "tls"}),
		named("either", config.ChainMatch{DestinationPort: 80, TransportProtocol: "tls", ApplicationProtocols: []string{"istio"}}),
		named("web", config.ChainMatch{DestinationPort: 80, ApplicationProtocols: []string{"http/1.1"}}),
		named("database", config.ChainMatch{DestinationPort: 80, PrefixRanges: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}),
	}, named("default", config.ChainMatch{}))
	for dst, want := range map[string]inspection{
		"10.0.0.1:25":   {},
		"10.0.0.1:443":  {tls: true},
		"10.0.0.1:80":   {tls: true, http: true},
		"10.1.0.1:80":   {}, // chosen by its address, whatever else is on the port
		"10.0.0.1:8080": {},
	} {
		if got := m.needs(netip.MustParseAddrPort(dst)); got != want {
			t.Errorf("%s: got %+v, want %+v", dst, got, want)
		}
	}
}
