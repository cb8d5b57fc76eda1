package config

import (
	"math/big"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"golang.org/x/net/http/httpguts"
)

// Envoy's defaults and bounds.
const (
	defaultMinRing = 1024
	largestRing    = 8 << 20
	defaultMaglev  = 65_537
	largestMaglev  = 5_000_011
)

// decodeHashTable reads how the endpoints of a cluster are found by a hash.
func (c *Cluster) decodeHashTable(a at, p *clusterv3.Cluster) error {
	if c.LB != LBRingHash && c.LB != LBMaglev {
		return nil
	}

	c.Balance.Hash = HashTable{MinRing: defaultMinRing, MaxRing: largestRing, Maglev: defaultMaglev}
	h := &c.Balance.Hash
	switch l := p.GetLbConfig().(type) {
	case *clusterv3.Cluster_RingHashLbConfig_:
		ra := a.in("ring_hash_lb_config")
		if err := ra.only(l.RingHashLbConfig, "minimum_ring_size", "maximum_ring_size", "hash_function"); err != nil {
			return err
		}
		if f := l.RingHashLbConfig.GetHashFunction(); f != clusterv3.Cluster_RingHashLbConfig_XX_HASH {
			return ra.in("hash_function").errorf("%v is not supported by this proxy", f)
		}
		if n := l.RingHashLbConfig.GetMinimumRingSize(); n != nil {
			h.MinRing = n.GetValue()
		}
		if n := l.RingHashLbConfig.GetMaximumRingSize(); n != nil {
			h.MaxRing = n.GetValue()
		}
		if h.MinRing > h.MaxRing || h.MaxRing > largestRing {
			return ra.errorf("a ring of %d places at least and %d at most: the second must be the larger, and %d or less", h.MinRing, h.MaxRing, largestRing)
		}

	case *clusterv3.Cluster_MaglevLbConfig_:
		ma := a.in("maglev_lb_config")
		if err := ma.only(l.MaglevLbConfig, "table_size"); err != nil {
			return err
		}
		if n := l.MaglevLbConfig.GetTableSize(); n != nil {
			h.Maglev = n.GetValue()
		}
		if h.Maglev > largestMaglev || !new(big.Int).SetUint64(h.Maglev).ProbablyPrime(0) {
			return ma.in("table_size").errorf("%d is no prime number of %d or less", h.Maglev, largestMaglev)
		}
	}
	return nil
}

// decodeHashPolicies reads what of a request is hashed.
func decodeHashPolicies(a at, list []*routev3.RouteAction_HashPolicy) ([]HashPolicy, error) {
	var out []HashPolicy
	for i, p := range list {
		ha := a.index("hash_policy", i)
		if err := ha.only(p, "header", "cookie", "connection_properties", "query_parameter", "terminal"); err != nil {
			return nil, err
		}

		h := HashPolicy{Terminal: p.GetTerminal()}
		var err error
		switch s := p.GetPolicySpecifier().(type) {
		case *routev3.RouteAction_HashPolicy_Header_:
			h.Header = strings.ToLower(s.Header.GetHeaderName())
			if err = ha.in("header").only(s.Header, "header_name"); err == nil && h.Header == "" {
				err = ha.in("header.header_name").errorf("is empty")
			}
		case *routev3.RouteAction_HashPolicy_Cookie_:
			h.Cookie, err = decodeHashCookie(ha.in("cookie"), s.Cookie)
		case *routev3.RouteAction_HashPolicy_QueryParameter_:
			if h.Query = s.QueryParameter.GetName(); h.Query == "" {
				err = ha.in("query_parameter.name").errorf("is empty")
			}
		case *routev3.RouteAction_HashPolicy_ConnectionProperties_:
			if h.SourceIP = s.ConnectionProperties.GetSourceIp(); !h.SourceIP {
				err = ha.in("connection_properties.source_ip").errorf("false is not supported by this proxy")
			}
		default:
			err = ha.errorf("hashes nothing")
		}

		if err != nil {
			return nil, err
		}
		out = append(out, h)
	}
	return out, nil
}

// decodeHashCookie reads a cookie, all parts of which may be written into an answer (RFC
// 6265 section 4.1.1).
func decodeHashCookie(a at, p *routev3.RouteAction_HashPolicy_Cookie) (*HashCookie, error) {
	if err := a.only(p, "name", "ttl", "path", "attributes"); err != nil {
		return nil, err
	}
	c := &HashCookie{Name: p.GetName(), Path: p.GetPath(), Generate: p.GetTtl() != nil}
	if !httpguts.ValidHeaderFieldName(c.Name) {
		return nil, a.in("name").errorf("%q is no name of a cookie", c.Name)
	}
	if err := a.durations(durationField{"ttl", p.GetTtl(), &c.TTL}); err != nil {
		return nil, err
	}

	fits := func(text string) bool { return httpguts.ValidHeaderFieldValue(text) && !strings.Contains(text, ";") }
	if !fits(c.Path) {
		return nil, a.in("path").errorf("%q cannot stand in a set-cookie field", c.Path)
	}
	for i, attr := range p.GetAttributes() {
		if !httpguts.ValidHeaderFieldName(attr.GetName()) || !fits(attr.GetValue()) {
			return nil, a.index("attributes", i).errorf("%q=%q cannot stand in a set-cookie field", attr.GetName(), attr.GetValue())
		}
		c.Attributes = append(c.Attributes, CookieAttribute{attr.GetName(), attr.GetValue()})
	}
	return c, nil
}

// decodeTCPHash tells whether the client's address decides where a connection goes.
func decodeTCPHash(a at, list []*typev3.HashPolicy) (bool, error) {
	for i, p := range list {
		if p.GetSourceIp() == nil {
			return false, a.index("hash_policy", i).errorf("only source_ip is supported by this proxy")
		}
	}
	return len(list) > 0, nil
}
