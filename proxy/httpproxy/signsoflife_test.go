package httpproxy

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/mtls/mtlstest"
	"github.com/isthmus-mesh/isthmus/xds"
)

// TestSignsOfLife: a sidecar that is throttled for a second or two is waited for. Its machine acknowledges PINGs
// meanwhile, and one that is gone is found by that. A gateway acknowledges for machines that are gone.
func TestSignsOfLife(t *testing.T) {
	ca := mtlstest.NewCA(t, "root")
	mesh := config.Transport{TLS: &config.UpstreamTLS{
		ALPN: []string{xds.ALPNMesh}, Cert: config.CertMesh, Roots: config.TrustRoots{Source: config.CertMesh},
	}}
	for _, c := range []struct {
		name            string
		transport       config.Transport
		http            config.HTTPOptions
		gateway, alone  bool
		after, patience time.Duration
	}{
		{name: "sidecar", transport: mesh, after: 500 * time.Millisecond, patience: 3 * time.Second},
		{name: "gateway", transport: mesh, gateway: true, after: 500 * time.Millisecond, patience: time.Second},
		{name: "the only one", transport: mesh, alone: true, after: 10 * time.Second, patience: 10 * time.Second},
		{name: "a stranger", after: 10 * time.Second, patience: 10 * time.Second},
		{
			name: "as configured", transport: mesh,
			http:  config.HTTPOptions{Ping: &config.HTTP2Ping{Interval: time.Minute, Timeout: time.Hour}},
			after: time.Minute, patience: time.Hour,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := mustAddr("127.0.0.1:1")
			cluster := &config.Cluster{
				Name: "c", Type: config.ClusterEDS, EDSName: "c", ConnectTimeout: time.Second, Transport: c.transport, HTTP: c.http,
			}
			h := startHop(t, setup{
				hcm: config.HCM{Routes: toCluster("c")}, clusters: []*config.Cluster{cluster}, identity: ca.Identity("spiffe://cluster.local/ns/foo/sa/client"),
			})
			list := []config.LocalityEndpoints{
				{Endpoints: []config.Endpoint{{Addr: at.Addr(), Port: 1, Weight: 1, Healthy: true, Gateway: c.gateway}}},
				{Priority: 1, Endpoints: []config.Endpoint{{Addr: at.Addr(), Port: 2, Weight: 1, Healthy: true}}},
			}
			if c.alone {
				list = list[:1]
			}
			h.set.ApplyEndpoints(&config.LoadAssignment{Name: "c", Localities: list})

			after, patience := signsOfLife(h.set.Get("c").Endpoints()[0])
			if after != c.after || patience != c.patience {
				t.Errorf("asked after %v, waited for %v; want %v, %v", after, patience, c.after, c.patience)
			}
		})
	}
}
