package resources

import (
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/model"
)

// A consistentHash has two halves: the cluster says how a hash finds its endpoint, and
// the routes (of TCP: the listeners) that lead there, what is hashed.

// hashPolicy is the one by which a cluster's endpoints are picked, nil for most. One that
// passes TLS through by its server name sees nothing that could be hashed.
func (k clusterKey) hashPolicy(pol model.TrafficPolicy) *model.ConsistentHash {
	if k.sni {
		return nil
	}
	return pol.Hash
}

// hashTable sets how a hash finds an endpoint.
func hashTable(c *clusterv3.Cluster, hash *model.ConsistentHash) {
	var size *wrapperspb.UInt64Value
	if hash.Size > 0 {
		size = wrapperspb.UInt64(hash.Size)
	}
	if hash.Maglev {
		c.LbConfig = &clusterv3.Cluster_MaglevLbConfig_{MaglevLbConfig: &clusterv3.Cluster_MaglevLbConfig{TableSize: size}}
		return
	}
	c.LbConfig = &clusterv3.Cluster_RingHashLbConfig_{RingHashLbConfig: &clusterv3.Cluster_RingHashLbConfig{MinimumRingSize: size}}
}

// hashOn says what of a request is hashed.
func hashOn(hash *model.ConsistentHash) *routev3.RouteAction_HashPolicy {
	switch {
	case hash.Header != "":
		return &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_Header_{
			Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: hash.Header},
		}}
	case hash.Query != "":
		return &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_QueryParameter_{
			QueryParameter: &routev3.RouteAction_HashPolicy_QueryParameter{Name: hash.Query},
		}}
	case hash.Cookie != nil:
		return &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_Cookie_{
			Cookie: hashCookie(hash.Cookie),
		}}
	}
	return &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_ConnectionProperties_{
		ConnectionProperties: &routev3.RouteAction_HashPolicy_ConnectionProperties{SourceIp: true},
	}}
}

func hashCookie(c *model.HashCookie) *routev3.RouteAction_HashPolicy_Cookie {
	out := &routev3.RouteAction_HashPolicy_Cookie{Name: c.Name, Path: c.Path}
	if c.Generate {
		out.Ttl = durationpb.New(c.TTL)
	}
	for _, a := range c.Attributes {
		out.Attributes = append(out.Attributes, &routev3.RouteAction_HashPolicy_CookieAttribute{Name: a.Name, Value: a.Value})
	}
	return out
}

// hashRoute has a route hash what its destinations are picked by, each key once.
func hashRoute(action *routev3.RouteAction, keys []*model.ConsistentHash) {
	for i, key := range keys {
		before := func(o *model.ConsistentHash) bool { return o.SameKey(key) }
		if !slices.ContainsFunc(keys[:i], before) {
			action.HashPolicy = append(action.HashPolicy, hashOn(key))
		}
	}
}

// hashingOf asks for the DestinationRules if any of them has a consistentHash; nil: none
// has. Most meshes have none, and their routes then do not depend on DestinationRules.
type hashingOf struct{ source *Source }

func (q hashingOf) build(r *reader, _ *rules) *rules {
	if all := q.source.rules.get(r); all.hashes {
		return all
	}
	return nil
}

// hashes tells whether any level of a rule has a consistentHash.
func hashes(dr *model.DestinationRule) bool {
	for _, p := range policiesOf(dr) {
		if p.Hash != nil {
			return true
		}
	}
	return false
}

// hashFor is the consistentHash by which clients of a namespace pick the endpoints of a
// port of a host, or nil. It may be called with no rules.
func (r *rules) hashFor(client, root string, h *host, subset string, port uint16) *model.ConsistentHash {
	if r == nil || h == nil {
		return nil
	}
	rule := r.find(client, root, h)
	return policyFor(rule, subsetOf(rule, subset), port).Hash
}
