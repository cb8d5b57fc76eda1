package resources

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/model"
)

// drawnOrder is a mesh of two clusters with a setting and a client, drawn at random.
type drawnOrder struct {
	*mesh
	setting *model.LocalitySetting
	prefers model.Distribution
	local   bool
	apart   bool // the clusters are on networks of their own

	client model.Workload
	all    []drawnEndpoint
}

type drawnEndpoint struct {
	model.Endpoint
	cluster model.ClusterID
}

func drawOrder(t *testing.T, r *rand.Rand) *drawnOrder {
	d := &drawnOrder{
		mesh: newMesh(t), setting: drawSetting(r), local: r.IntN(8) == 0, apart: r.IntN(2) == 0,
		client: model.Workload{
			Cluster: testCluster, Namespace: "client", Name: "c-1", Node: one(r, "", "n1", "n2"),
			Locality: drawLocality(r), Labels: map[string]string{"version": one(r, "v1", "v2")},
		},
	}
	if r.IntN(2) == 0 {
		// A setting of the mesh gives way to the service.
		d.prefers, d.setting = model.Distribution(r.IntN(3)), nil
	}
	for i, c := range []model.ClusterID{testCluster, farCluster} {
		web, row := webIn(c), &model.Cluster{ID: c, Synced: true}
		web.Distribution, web.NodeLocal = d.prefers, d.local
		if d.apart {
			row.Network = fmt.Sprint("net", i+1)
		}
		insert(d.mesh, d.store.Clusters, row)
		insert(d.mesh, d.store.Services, web)
		set := &model.EndpointSet{Host: web.Host, Cluster: c, Namespace: web.Namespace, Name: web.Name}
		for n := range r.IntN(7) {
			set.Endpoints = append(set.Endpoints, model.Endpoint{
				Address: fmt.Sprintf("10.%d.0.%d", i+1, n+1), Ports: map[string]uint16{"http": 8080}, TLS: true, Weight: uint32(r.IntN(4)),
				Locality: drawLocality(r), Node: one(r, "n1", "n2"), Labels: map[string]string{"version": one(r, "v1", "v2", "v3")},
			})
			d.all = append(d.all, drawnEndpoint{set.Endpoints[n], c})
		}
		insert(d.mesh, d.store.Endpoints, set)
	}
	insert(d.mesh, d.store.Entrances, gatewayTo("net2", "gw", "192.0.2.1"))
	row := model.DefaultMesh(testCluster)
	row.Locality = d.setting
	insert(d.mesh, d.store.Meshes, row)
	insert(d.mesh, d.store.Workloads, &d.client)
	return d
}

func one[T any](r *rand.Rand, choices ...T) T { return choices[r.IntN(len(choices))] }

func drawLocality(r *rand.Rand) model.Locality {
	return model.MakeLocality(one(r, "", "r1", "r1", "r2", "r3"), one(r, "", "z1", "z1", "z2"), one(r, "", "s1", "s2"))
}

func drawSetting(r *rand.Rand) *model.LocalitySetting {
	s := &model.LocalitySetting{}
	switch r.IntN(6) {
	case 0:
		return nil
	case 1:
		s.Off = true
	case 2:
		s.Failover = map[string]string{"r1": "r2", "r2": "r3"}
	case 3:
		s.Distribute = []model.Distribute{
			{From: "r1/z1", To: []model.LocalityShare{{To: "r1/z1/s1", Percent: 70}, {To: "r2/*", Percent: 30}}},
			{From: "r2", To: []model.LocalityShare{{To: "*", Percent: 100}}},
		}
	default:
		keys := []string{"version", "kubernetes.io/hostname", "topology.istio.io/cluster", "topology.istio.io/network"}
		if r.IntN(2) == 0 {
			s.Failover = map[string]string{"r1": "r2"}
		} else {
			keys = append(keys, "topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")
		}
		r.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		for _, key := range keys[:1+r.IntN(len(keys))] {
			s.Priority = append(s.Priority, model.PriorityLabel{Key: key})
		}
	}
	return s
}

// farness is how far an endpoint is for the client, worked out by counting in how
// many leading parts the two agree. Less is nearer.
type farness [2]int

func (f farness) compare(o farness) int {
	return cmp.Or(cmp.Compare(f[0], o[0]), cmp.Compare(f[1], o[1]))
}

func (d *drawnOrder) shares() []model.LocalityShare { return d.setting.Shares(d.client.Locality) }

func (d *drawnOrder) farness(e drawnEndpoint) farness {
	onNode := d.client.Node != "" && e.Node == d.client.Node && e.cluster == testCluster
	switch {
	case d.setting != nil && d.setting.Off, d.shares() != nil:
		return farness{}
	case d.setting != nil && len(d.setting.Priority) > 0:
		f := farness{len(d.setting.Priority)}
		for _, l := range d.setting.Priority {
			if !d.agrees(l.Key, e, onNode) {
				break
			}
			f[0]--
		}
		if d.setting.Failover != nil {
			f[1] = d.parts(e.Locality)
		}
		return f
	case d.prefers == model.PreferNode && onNode:
		return farness{-1}
	}
	f := farness{d.parts(e.Locality)}
	if e.cluster != testCluster && (f[0] > 0 || d.prefers != model.DistributeAny) {
		f[1] = 1
	}
	return f
}

// parts is how many parts of the client's locality are left from the first on in
// which an endpoint's differs; one more where its region does, and is not the one
// to fail over to.
func (d *drawnOrder) parts(there model.Locality) int {
	mine, theirs := split(d.client.Locality), split(there)
	known := slices.Index(append(mine, ""), "")
	for i := range known {
		if mine[i] == theirs[i] {
			continue
		}
		if i == 0 && (theirs[0] == "" || d.setting == nil || d.setting.Failover[mine[0]] != theirs[0]) {
			return known + 1
		}
		return known - i
	}
	return 0
}

func split(l model.Locality) []string {
	region, zone, subzone := l.Parts()
	return []string{region, zone, subzone}
}

func (d *drawnOrder) agrees(key string, e drawnEndpoint, onNode bool) bool {
	mine, theirs := split(d.client.Locality), split(e.Locality)
	switch key {
	case "version":
		return d.client.Labels["version"] == e.Labels["version"]
	case "kubernetes.io/hostname":
		return onNode
	case "topology.istio.io/cluster":
		return e.cluster == testCluster
	case "topology.istio.io/network":
		return !d.apart || e.cluster == testCluster
	case "topology.kubernetes.io/region":
		return mine[0] == theirs[0]
	case "topology.kubernetes.io/zone":
		return mine[1] == theirs[1]
	}
	return mine[2] == theirs[2]
}

// expected is how far each address is that is to be shown.
func (d *drawnOrder) expected() map[string]farness {
	want := map[string]farness{}
	for _, e := range d.all {
		shares := d.shares()
		hidden := shares != nil && !slices.ContainsFunc(shares, func(s model.LocalityShare) bool { return s.To.Matches(e.Locality) })
		if d.local && (d.client.Node == "" || e.Node != d.client.Node || e.cluster != testCluster) {
			hidden = true
		}
		if hidden {
			continue
		}
		address, far := e.Address, d.farness(e)
		if d.apart && e.cluster != testCluster {
			// The gateway stands where the nearest behind it does.
			address = "192.0.2.1"
			if old, known := want[address]; known && old.compare(far) < 0 {
				far = old
			}
		}
		want[address] = far
	}
	return want
}

// TestOrderOfDrawnMeshes: whatever the mesh and the setting, a client is shown each
// endpoint that it may reach once, or the gateway before it; the priorities have no
// gaps; and what is nearer comes before what is farther away.
func TestOrderOfDrawnMeshes(t *testing.T) {
	several := 0
	for seed := range uint64(600) {
		d := drawOrder(t, rand.New(rand.NewPCG(seed, 11)))
		want := d.expected()
		steps := slices.CompactFunc(slices.SortedFunc(maps.Values(want), farness.compare), func(a, b farness) bool { return a == b })
		if len(steps) > 2 {
			several++
		}

		shown := map[string]bool{}
		for _, l := range d.loadAssignment(d.view(clientIn(testCluster)), webCluster).Endpoints {
			for _, e := range l.LbEndpoints {
				address := e.GetEndpoint().GetAddress().GetSocketAddress().GetAddress()
				far, known := want[address]
				switch priority := slices.Index(steps, far); {
				case !known:
					t.Errorf("seed %d: %s is shown, and should not be", seed, address)
				case shown[address]:
					t.Errorf("seed %d: %s is shown twice", seed, address)
				case int(l.Priority) != priority:
					t.Errorf("seed %d: %s has priority %d, want %d", seed, address, l.Priority, priority)
				}
				shown[address] = true
			}
		}
		if len(shown) != len(want) {
			t.Errorf("seed %d: %d of %d addresses are shown", seed, len(shown), len(want))
		}
		if t.Failed() {
			t.Fatalf("seed %d: client %+v, setting %+v, service prefers %d, apart %t, endpoints %+v",
				seed, d.client, d.setting, d.prefers, d.apart, d.all)
		}
	}
	if several < 100 {
		t.Errorf("%d meshes with more than two priorities: the test shows little", several)
	}
}
