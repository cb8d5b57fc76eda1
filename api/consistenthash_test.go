package api

import (
	"strings"
	"testing"
)

// ruleHead is a DestinationRule up to its spec.
const ruleHead = "kind: DestinationRule\nmetadata: {name: x, namespace: ns}\nspec: "

// TestConsistentHash: what a consistentHash may say, at every level of a rule.
func TestConsistentHash(t *testing.T) {
	for name, c := range map[string]struct {
		hash string
		want string // "": it is taken
	}{
		"header":         {`{httpHeaderName: x-user}`, ""},
		"query":          {`{httpQueryParameterName: user}`, ""},
		"address":        {`{useSourceIp: true, maglev: {}}`, ""},
		"cookie":         {`{httpCookie: {name: id}}`, ""},
		"cookie, whole":  {`{httpCookie: {name: id, path: /a, ttl: 0s, attributes: [{name: SameSite, value: Lax}, {name: Secure}]}}`, ""},
		"ring":           {`{useSourceIp: true, ringHash: {minimumRingSize: 2048}}`, ""},
		"ring, old name": {`{useSourceIp: true, minimumRingSize: 2048}`, ""},
		"maglev":         {`{useSourceIp: true, maglev: {tableSize: 251}}`, ""},

		"nothing":        {`{}`, "consistentHash: does not say by what requests are told apart"},
		"table alone":    {`{maglev: {}}`, "consistentHash: does not say by what requests are told apart"},
		"no address":     {`{useSourceIp: false}`, "consistentHash.useSourceIp: false says nothing"},
		"no header":      {`{httpHeaderName: "a b"}`, `consistentHash.httpHeaderName: "a b" is no header field`},
		"no query":       {`{httpQueryParameterName: ""}`, "consistentHash.httpQueryParameterName: is empty"},
		"no cookie":      {`{httpCookie: {ttl: 0s}}`, `consistentHash.httpCookie.name: "" is no name of a cookie`},
		"cookie's path":  {`{httpCookie: {name: id, path: "/; Domain=x"}}`, "consistentHash.httpCookie.path:"},
		"cookie's ttl":   {`{httpCookie: {name: id, ttl: -1s}}`, "consistentHash.httpCookie.ttl: -1s is too short"},
		"cookie's parts": {`{httpCookie: {name: id, ttl: 1s, attributes: [{name: "a b"}]}}`, "consistentHash.httpCookie.attributes[0].name:"},
		"cookie's text":  {`{httpCookie: {name: id, ttl: 1s, attributes: [{name: a, value: "\n"}]}}`, "consistentHash.httpCookie.attributes[0].value:"},
		"cookie not set": {`{httpCookie: {name: id, attributes: [{name: Secure}]}}`, "consistentHash.httpCookie.attributes: need ttl"},
		"a large ring":   {`{useSourceIp: true, ringHash: {minimumRingSize: 8388609}}`, "consistentHash.ringHash.minimumRingSize: 8388609 is too large"},
		"a large old":    {`{useSourceIp: true, minimumRingSize: 8388609}`, "consistentHash.minimumRingSize: 8388609 is too large"},
		"both rings":     {`{useSourceIp: true, minimumRingSize: 8, ringHash: {}}`, "consistentHash.minimumRingSize: cannot stand beside"},
		"not prime":      {`{useSourceIp: true, maglev: {tableSize: 1024}}`, "consistentHash.maglev.tableSize: 1024 is no prime number"},
		"a large table":  {`{useSourceIp: true, maglev: {tableSize: 5000077}}`, "consistentHash.maglev.tableSize: 5000077 is no prime number of"},
	} {
		t.Run(name, func(t *testing.T) {
			policy := `loadBalancer: {consistentHash: ` + c.hash + `}`
			for path, spec := range map[string]string{
				"spec.trafficPolicy.":                      `{host: a.b, trafficPolicy: {` + policy + `}}`,
				"spec.trafficPolicy.portLevelSettings[0].": `{host: a.b, trafficPolicy: {portLevelSettings: [{port: {number: 80}, ` + policy + `}]}}`,
				"spec.subsets[0].trafficPolicy.":           `{host: a.b, subsets: [{name: v1, trafficPolicy: {` + policy + `}}]}`,
			} {
				_, err := decodeYAML(t, ruleHead+spec)
				switch {
				case c.want == "" && err != nil:
					t.Errorf("%s: %v", path, err)
				case c.want != "" && (err == nil || !strings.Contains(err.Error(), path+"loadBalancer."+c.want)):
					t.Errorf("%s: error %v, want one with %q", path, err, c.want)
				}
			}
		})
	}
}

// TestConsistentHashStandsAlone: what else a loadBalancer says must not contradict it.
func TestConsistentHashStandsAlone(t *testing.T) {
	for name, c := range map[string]struct{ object, want string }{
		"warm-up": {
			ruleHead + `{host: a.b, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}, warmup: {duration: 9s}}}}`,
			"spec.trafficPolicy.loadBalancer.warmup: cannot stand with consistentHash",
		},
		"peak EWMA": {
			"kind: DestinationRule\nmetadata: {name: x, namespace: ns, annotations: {isthmus.io/load-balancer: peak-ewma}}\n" +
				"spec: {host: a.b, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}}",
			"peak-ewma contradicts spec.trafficPolicy.loadBalancer.consistentHash",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := decodeYAML(t, c.object); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}
