package compile

import (
	networking "istio.io/api/networking/v1alpha3"

	"github.com/isthmus-mesh/isthmus/model"
)

func consistentHash(hash *networking.LoadBalancerSettings_ConsistentHashLB) *model.ConsistentHash {
	if hash == nil {
		return nil
	}
	out := &model.ConsistentHash{
		Header:   hash.GetHttpHeaderName(),
		Query:    hash.GetHttpQueryParameterName(),
		SourceIP: hash.GetUseSourceIp(),
		Cookie:   hashCookie(hash.GetHttpCookie()),
		//lint:ignore SA1019 older manifests say minimumRingSize
		Size: hash.MinimumRingSize,
	}

	switch a := hash.HashAlgorithm.(type) {
	case *networking.LoadBalancerSettings_ConsistentHashLB_RingHash_:
		out.Size = a.RingHash.GetMinimumRingSize()
	case *networking.LoadBalancerSettings_ConsistentHashLB_Maglev:
		out.Maglev, out.Size = true, a.Maglev.GetTableSize()
	}
	return out
}

func hashCookie(c *networking.LoadBalancerSettings_ConsistentHashLB_HTTPCookie) *model.HashCookie {
	if c == nil {
		return nil
	}
	out := &model.HashCookie{Name: c.Name, Path: c.Path, Generate: c.Ttl != nil, TTL: c.Ttl.AsDuration()}
	for _, a := range c.Attributes {
		out.Attributes = append(out.Attributes, model.CookieAttribute{Name: a.GetName(), Value: a.GetValue()})
	}
	return out
}
