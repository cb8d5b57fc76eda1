package resources

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
)

// drawn is a mesh of clusters and networks that was drawn at random, with what is
// known of it beside the rows.
type drawn struct {
	*mesh
	clusters map[model.ClusterID]string // their networks; "": nobody names it
	// networks and weights are those of web's endpoints, by address; weight 0
	// is an endpoint that no gateway passes on to.
	networks map[string]string
	weights  map[string]uint32
	gateways map[string]string // the network of a gateway's address
}

func drawNetworks(t *testing.T, r *rand.Rand) *drawn {
	d := &drawn{
		mesh: newMesh(t), clusters: map[model.ClusterID]string{},
		networks: map[string]string{}, weights: map[string]uint32{}, gateways: map[string]string{},
	}
	names := []string{"", "net1", "net2", "net3"}
	held := netip.MustParsePrefix("10.1.3.0/24") // net3 holds it, whatever labels say
	if r.IntN(2) == 0 {
		insert(d.mesh, d.store.Networks, &model.Network{Cluster: testCluster, Name: "net3", CIDRs: []netip.Prefix{held}})
	} else {
		held = netip.Prefix{}
	}
	for i := range 2 + r.IntN(3) {
		c := model.ClusterID(fmt.Sprint("c", i+1))
		network := names[r.IntN(4)]
		d.clusters[c] = network
		insert(d.mesh, d.store.Clusters, &model.Cluster{ID: c, Synced: true, Network: network})
		insert(d.mesh, d.store.Services, webIn(c))
		set := &model.EndpointSet{Host: webHost, Cluster: c, Namespace: "shop", Name: "web"}
		for e := range r.IntN(6) {
			ep := model.Endpoint{
				Address: fmt.Sprintf("10.%d.%d.%d", i+1, r.IntN(4), e+1), Ports: map[string]uint16{"http": 8080},
				TLS: r.IntN(4) > 0, Router: r.IntN(8) == 0, Weight: uint32(r.IntN(4)),
			}
			if r.IntN(3) == 0 {
				ep.Network = names[r.IntN(4)]
			}
			set.Endpoints = append(set.Endpoints, ep)

			in := ep.Network
			if in == "" {
				in = network
			}
			if held.IsValid() && held.Contains(netip.MustParseAddr(ep.Address)) {
				in = "net3"
			}
			d.networks[ep.Address] = in
			if ep.TLS && !ep.Router {
				d.weights[ep.Address] = max(ep.Weight, 1)
			}
		}
		insert(d.mesh, d.store.Endpoints, set)
	}
	for n, network := range names[1:] {
		for g := range r.IntN(4) {
			address := fmt.Sprintf("192.0.%d.%d", n+1, g+1)
			d.gateways[address] = network
			insert(d.mesh, d.store.Entrances, gatewayTo(network, fmt.Sprint("gw-", n, "-", g), address))
		}
	}
	return d
}

// TestNetworksOfDrawnMeshes: whatever the mesh, a proxy is sent no address of
// another network but those of its gateways, and every endpoint that is reached has
// the same share for its weight.
func TestNetworksOfDrawnMeshes(t *testing.T) {
	behindGateways := 0
	for seed := range uint64(300) {
		d := drawNetworks(t, rand.New(rand.NewPCG(seed, 7)))
		for c, own := range d.clusters {
			got := d.shown(clientIn(c))
			// The share of one unit of weight is num/den, the same for all.
			num, den := 0, 0
			share := func(what string, n, m int) {
				if num == 0 {
					num, den = n, m
				}
				if n*den != num*m {
					t.Errorf("seed %d, client in %q: %s has %d for %d, others %d for %d: %v", seed, own, what, n, m, num, den, got)
				}
			}

			through := map[string]int{}
			for at, weight := range got {
				address, _, _ := strings.Cut(at, ":")
				if network, gateway := d.gateways[address]; gateway {
					if network == own || own == "" {
						t.Errorf("seed %d: a client in %q is led to the gateway %s of %q", seed, own, address, network)
					}
					through[network] += weight
					continue
				}
				network := d.networks[address]
				if own != "" && network != "" && network != own {
					t.Errorf("seed %d: a client in %q is sent %s of %q", seed, own, address, network)
				}
				share(address, weight, int(d.weightOf(address)))
			}
			behind := map[string]int{}
			for address, network := range d.networks {
				if own != "" && network != "" && network != own {
					behind[network] += int(d.weights[address])
				} else if _, shown := got[address+":8080"]; !shown {
					t.Errorf("seed %d: a client in %q is not sent %s of %q", seed, own, address, network)
				}
			}
			for network, weight := range through {
				behindGateways++
				if behind[network] == 0 {
					t.Errorf("seed %d: a client in %q is led to %q, where there is nothing", seed, own, network)
					continue
				}
				share(network, weight, behind[network])
			}
		}
	}
	if behindGateways < 100 {
		t.Errorf("%d networks behind gateways: the test shows little", behindGateways)
	}
}

// weightOf is an endpoint's own weight, whether a gateway passes on to it or not.
func (d *drawn) weightOf(address string) uint32 {
	for set := range d.store.Endpoints.All(d.store.Read()) {
		for i := range set.Endpoints {
			if set.Endpoints[i].Address == address {
				return max(set.Endpoints[i].Weight, 1)
			}
		}
	}
	return 0
}

// TestFarEndpointChangeRebuildsOne: one endpoint of another cluster and network
// changes, and in each place one resource is built.
func TestFarEndpointChangeRebuildsOne(t *testing.T) {
	m := twoNetworks(t)
	insert(m, m.store.Entrances, gatewayTo("net2", "gw", "192.0.2.1"))
	for _, s := range fill(m, 200, 5) {
		moved := far(s)
		insert(m, m.store.Services, moved)
		m.endpoints(moved, "10.2.9.1", "10.2.9.2")
	}
	v := m.view(clientIn(testCluster))
	ask := func() <-chan struct{} {
		_, told, err := v.Resources(xds.TypeEndpoint, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, typeURL := range allTypes {
			m.resources(v, typeURL)
		}
		return told
	}
	ask()
	time.Sleep(20 * time.Millisecond) // what was announced before
	told := ask()
	for i := range 10 {
		built := m.source.Built()
		addresses := []string{"10.2.0.1", "10.2.0.2", "10.2.0.3", "10.2.0.4", "10.2.0.5"}
		m.webEndpoints(farCluster, addresses[:1+i%5]...)
		waitFor(t, told)
		told = ask()
		if n := m.source.Built() - built; n != 1 {
			t.Fatalf("%d resources were built, want 1", n)
		}
		if got := m.shown(clientIn(testCluster)); got["192.0.2.1:15443"] != (1+i%5)*got["10.1.0.1:8080"] {
			t.Errorf("%v", got)
		}
	}
}
