package resources

import "testing"

// TestGlobalDomain: services are passed through under the domain that the mesh
// has for those of other clusters, and under no other.
func TestGlobalDomain(t *testing.T) {
	const gateway = `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g, namespace: istio-system}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 15443, name: tls, protocol: TLS}, tls: {mode: AUTO_PASSTHROUGH}, hosts: ["*.global", "*.mesh"]}]}
`
	for domain, other := range map[string]string{"": "mesh", "mesh": "global"} {
		s := newScene(t, gateway)
		s.source.cfg.GlobalDomain = domain
		if domain == "" {
			domain = "global"
			source, err := New(s.store, Config{Cluster: testCluster})
			if err != nil {
				t.Fatal(err)
			}
			s.source.cfg.GlobalDomain = source.cfg.GlobalDomain
		}
		if s.cluster(s.gateway, "outbound_.80_._.web.shop."+domain) == nil {
			t.Errorf("domain %s: web.shop.%s is not reached", domain, domain)
		}
		if s.cluster(s.gateway, "outbound_.80_._.web.shop."+other) != nil {
			t.Errorf("domain %s: web.shop.%s is reached", domain, other)
		}
	}
}
