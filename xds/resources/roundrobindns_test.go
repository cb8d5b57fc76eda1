package resources

import (
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
)

// TestRoundRobinDNS: an entry that follows one name has its clients use one address of it
// at a time; of several entries for one host, all names count.
func TestRoundRobinDNS(t *testing.T) {
	entry := func(name, resolution, endpoints string) string {
		return "kind: ServiceEntry\nmetadata: {name: " + name + ", namespace: shop}\nspec: {hosts: [www.example], resolution: " + resolution +
			", ports: [{number: 80, name: http}]" + endpoints + "}\n---\n"
	}
	for name, c := range map[string]struct {
		docs string
		want clusterv3.Cluster_DiscoveryType
	}{
		"one name":          {entry("a", "DNS_ROUND_ROBIN", ""), clusterv3.Cluster_LOGICAL_DNS},
		"another name":      {entry("a", "DNS_ROUND_ROBIN", ", endpoints: [{address: a.example}]"), clusterv3.Cluster_LOGICAL_DNS},
		"all its addresses": {entry("a", "DNS", ""), clusterv3.Cluster_STRICT_DNS},
		"names of two":      {entry("a", "DNS_ROUND_ROBIN", "") + entry("b", "DNS_ROUND_ROBIN", ", endpoints: [{address: b.example}]"), clusterv3.Cluster_STRICT_DNS},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, c.docs)
			got := s.cluster(s.client, "outbound|80||www.example")
			if got.GetType() != c.want || countEndpoints(got.GetLoadAssignment()) == 0 {
				t.Errorf("got %v", got)
			}
		})
	}
}
