package api

import (
	"math/big"
	"strings"

	"golang.org/x/net/http/httpguts"
	networking "istio.io/api/networking/v1alpha3"
)

// hashFields are those of a loadBalancer's consistentHash.
var hashFields = fieldSet{
	"httpHeaderName": nil, "httpQueryParameterName": nil, "useSourceIp": nil,
	"httpCookie":      {"name": nil, "path": nil, "ttl": nil, "attributes": nil},
	"ringHash":        {"minimumRingSize": nil},
	"maglev":          {"tableSize": nil},
	"minimumRingSize": nil,
}

// The largest tables that Envoy builds (RingHashLbConfig.minimum_ring_size,
// MaglevLbConfig.table_size).
const (
	largestRing   = 8 << 20
	largestMaglev = 5_000_011
)

// validateConsistentHash checks by what of a request its endpoint is found.
func validateConsistentHash(p *problems, path string, lb *networking.LoadBalancerSettings) {
	hash := lb.GetConsistentHash()
	if hash == nil {
		return
	}

	//lint:ignore SA1019 older manifests say warmupDurationSecs
	if lb.Warmup != nil || lb.WarmupDurationSecs != nil {
		p.addf(path+".warmup", "cannot stand with consistentHash, which gives an endpoint the requests that are its own, and at once; remove one of them")
	}
	at := path + ".consistentHash"
	validateHashKey(p, at, hash)
	validateHashTable(p, at, hash)
}

func validateHashKey(p *problems, path string, hash *networking.LoadBalancerSettings_ConsistentHashLB) {
	switch key := hash.HashKey.(type) {
	case nil:
		p.addf(path, "does not say by what requests are told apart; set one of httpHeaderName, httpCookie, useSourceIp, httpQueryParameterName")
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpHeaderName:
		if !httpguts.ValidHeaderFieldName(key.HttpHeaderName) {
			p.addf(path+".httpHeaderName", "%q is no header field", key.HttpHeaderName)
		}
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpQueryParameterName:
		if key.HttpQueryParameterName == "" {
			p.addf(path+".httpQueryParameterName", "is empty; name the parameter")
		}
	case *networking.LoadBalancerSettings_ConsistentHashLB_UseSourceIp:
		if !key.UseSourceIp {
			p.addf(path+".useSourceIp", "false says nothing; set it to true, or name a header field, a cookie or a query parameter")
		}
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpCookie:
		validateHashCookie(p, path+".httpCookie", key.HttpCookie)
	}
}

// validateHashCookie checks a cookie that the proxy may have to set itself (RFC 6265
// section 4.1.1): nothing of it may end its own part of the field.
func validateHashCookie(p *problems, path string, c *networking.LoadBalancerSettings_ConsistentHashLB_HTTPCookie) {
	if !httpguts.ValidHeaderFieldName(c.GetName()) {
		p.addf(path+".name", "%q is no name of a cookie", c.GetName())
	}
	p.checkCookieText(path+".path", c.GetPath())
	p.checkDuration(path+".ttl", c.GetTtl(), 0)

	for i, a := range c.GetAttributes() {
		at := indexed(path+".attributes", i)
		if !httpguts.ValidHeaderFieldName(a.GetName()) {
			p.addf(at+".name", "%q is no name of an attribute", a.GetName())
		}
		p.checkCookieText(at+".value", a.GetValue())
	}
	if c.GetTtl() == nil && len(c.GetAttributes()) > 0 {
		p.addf(path+".attributes", "need ttl: without it, the proxy sets no cookie; 0s makes one that ends with the browser")
	}
}

// checkCookieText notes what cannot stand in a part of a set-cookie field.
func (p *problems) checkCookieText(path, text string) {
	bad := func(r rune) bool { return r == ';' || r < ' ' || r >= 0x7f }
	if strings.ContainsFunc(text, bad) {
		p.addf(path, "%q has a character that cannot stand there (a semicolon, a control character, or none of ASCII)", text)
	}
}

func validateHashTable(p *problems, path string, hash *networking.LoadBalancerSettings_ConsistentHashLB) {
	ring := func(at string, size uint64) {
		if size > largestRing {
			p.addf(at, "%d is too large; set %d or less", size, largestRing)
		}
	}

	//lint:ignore SA1019 older manifests say minimumRingSize
	old := hash.MinimumRingSize
	ring(path+".minimumRingSize", old)
	ring(path+".ringHash.minimumRingSize", hash.GetRingHash().GetMinimumRingSize())
	if old != 0 && hash.HashAlgorithm != nil {
		p.addf(path+".minimumRingSize", "cannot stand beside ringHash or maglev; set ringHash.minimumRingSize")
	}

	size := hash.GetMaglev().GetTableSize()
	if size != 0 && (size > largestMaglev || !new(big.Int).SetUint64(size).ProbablyPrime(0)) {
		p.addf(path+".maglev.tableSize", "%d is no prime number of %d or less; 65537 is the default", size, largestMaglev)
	}
}
