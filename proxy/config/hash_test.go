package config

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// TestHashTables: what a cluster says of its table, and what Envoy has where it says
// nothing.
func TestHashTables(t *testing.T) {
	for name, c := range map[string]struct {
		fields string
		lb     LBPolicy
		want   HashTable
		refuse string // the field
	}{
		"a ring":              {`"lb_policy": "RING_HASH"`, LBRingHash, HashTable{1024, 8 << 20, 65537}, ""},
		"a ring of a size":    {`"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 7, "maximum_ring_size": 9}`, LBRingHash, HashTable{7, 9, 65537}, ""},
		"a Maglev table":      {`"lb_policy": "MAGLEV"`, LBMaglev, HashTable{1024, 8 << 20, 65537}, ""},
		"one of a size":       {`"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 251}`, LBMaglev, HashTable{1024, 8 << 20, 251}, ""},
		"no hashing":          {`"lb_policy": "RANDOM", "ring_hash_lb_config": {}`, LBRandom, HashTable{}, ""},
		"another function":    {`"lb_policy": "RING_HASH", "ring_hash_lb_config": {"hash_function": "MURMUR_HASH_2"}`, 0, HashTable{}, "ring_hash_lb_config.hash_function"},
		"the least above all": {`"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 9, "maximum_ring_size": 7}`, 0, HashTable{}, "ring_hash_lb_config"},
		"too large a ring":    {`"lb_policy": "RING_HASH", "ring_hash_lb_config": {"maximum_ring_size": 8388609}`, 0, HashTable{}, "ring_hash_lb_config"},
		"not a prime":         {`"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 250}`, 0, HashTable{}, "maglev_lb_config.table_size"},
		"no table":            {`"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 0}`, 0, HashTable{}, "maglev_lb_config.table_size"},
		"bounded load": {
			`"lb_policy": "MAGLEV", "common_lb_config": {"consistent_hashing_lb_config": {"hash_balance_factor": 150}}`,
			0, HashTable{}, "common_lb_config.consistent_hashing_lb_config",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := DecodeCluster(pack(t, &clusterv3.Cluster{}, `{"name": "c", `+c.fields+`}`))
			var e *Error
			switch {
			case c.refuse != "" && (!errors.As(err, &e) || e.Field != c.refuse):
				t.Errorf("error %v, want one of %s", err, c.refuse)
			case c.refuse == "" && err != nil:
				t.Error(err)
			case c.refuse == "" && (got.LB != c.lb || got.Balance.Hash != c.want):
				t.Errorf("policy %v, table %+v, want %v and %+v", got.LB, got.Balance.Hash, c.lb, c.want)
			}
		})
	}
}

// TestHashPolicies: what of a request a route hashes.
func TestHashPolicies(t *testing.T) {
	const route = `{"name": "80", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "c", "hash_policy": [%]}}]}]}`
	const at = "virtual_hosts[0].routes[0].route.hash_policy[0]"
	for name, c := range map[string]struct {
		policy string
		want   HashPolicy
		refuse string // the field
	}{
		"header":   {`{"header": {"header_name": "X-User"}, "terminal": true}`, HashPolicy{Header: "x-user", Terminal: true}, ""},
		"query":    {`{"query_parameter": {"name": "user"}}`, HashPolicy{Query: "user"}, ""},
		"address":  {`{"connection_properties": {"source_ip": true}}`, HashPolicy{SourceIP: true}, ""},
		"a cookie": {`{"cookie": {"name": "id"}}`, HashPolicy{Cookie: &HashCookie{Name: "id"}}, ""},
		"a cookie that is set": {
			`{"cookie": {"name": "id", "ttl": "9s", "path": "/a", "attributes": [{"name": "Secure"}]}}`,
			HashPolicy{Cookie: &HashCookie{Name: "id", Generate: true, TTL: 9 * time.Second, Path: "/a", Attributes: []CookieAttribute{{"Secure", ""}}}}, "",
		},
		"nothing":               {`{}`, HashPolicy{}, at},
		"filter state":          {`{"filter_state": {"key": "k"}}`, HashPolicy{}, at + ".filter_state"},
		"a part of a field":     {`{"header": {"header_name": "a", "regex_rewrite": {}}}`, HashPolicy{}, at + ".header.regex_rewrite"},
		"no field":              {`{"header": {}}`, HashPolicy{}, at + ".header.header_name"},
		"no parameter":          {`{"query_parameter": {}}`, HashPolicy{}, at + ".query_parameter.name"},
		"no address":            {`{"connection_properties": {}}`, HashPolicy{}, at + ".connection_properties.source_ip"},
		"no name":               {`{"cookie": {"name": "a;b"}}`, HashPolicy{}, at + ".cookie.name"},
		"a path with an end":    {`{"cookie": {"name": "id", "path": "/; Domain=x"}}`, HashPolicy{}, at + ".cookie.path"},
		"a value with an end":   {`{"cookie": {"name": "id", "attributes": [{"name": "a", "value": "b\r\nc: d"}]}}`, HashPolicy{}, at + ".cookie.attributes[0]"},
		"an attribute, no name": {`{"cookie": {"name": "id", "attributes": [{}]}}`, HashPolicy{}, at + ".cookie.attributes[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := DecodeRouteConfiguration(pack(t, &routev3.RouteConfiguration{}, strings.Replace(route, "%", c.policy, 1)))
			var e *Error
			switch {
			case c.refuse != "" && (!errors.As(err, &e) || e.Field != c.refuse):
				t.Errorf("error %v, want one of %s", err, c.refuse)
			case c.refuse == "" && err != nil:
				t.Error(err)
			case c.refuse == "":
				if hash := got.VirtualHosts[0].Routes[0].Action.Hash; !reflect.DeepEqual(hash, []HashPolicy{c.want}) {
					t.Errorf("got %+v, want %+v", hash, c.want)
				}
			}
		})
	}
}
