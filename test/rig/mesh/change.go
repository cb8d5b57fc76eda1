package mesh

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/model"
)

// The changes that can be asked for.
const (
	// ChangeEndpoint replaces one endpoint of the made-up service N.
	ChangeEndpoint = "endpoint"
	// ChangeEntry makes a ServiceEntry number N, with one port and a DNS name.
	ChangeEntry = "entry"
	// ChangeRestart replaces N pods, ten per service, one every millisecond.
	ChangeRestart = "restart"
)

// Change is one request.
type Change struct {
	Kind string
	N    int
}

// Changed says when a change was written: the time before the (last) row was.
type Changed struct{ At time.Time }

// changer changes the mesh.
type changer struct {
	scene *Scene
	store *model.Store

	mu          sync.Mutex
	generations map[int][]int // of endpoints, by made-up service
}

func newChanger(scene *Scene, store *model.Store) *changer {
	return &changer{scene: scene, store: store, generations: map[int][]int{}}
}

func (c *changer) apply(ch Change) (Changed, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch ch.Kind {
	case ChangeEndpoint:
		at, err := c.replace(ch.N, 0)
		return Changed{at}, err
	case ChangeEntry:
		at, err := c.entry(ch.N)
		return Changed{at}, err
	case ChangeRestart:
		var at time.Time
		for i := range ch.N {
			var err error
			if at, err = c.replace(i/c.scene.Endpoints, i%c.scene.Endpoints); err != nil {
				return Changed{}, err
			}
			time.Sleep(time.Millisecond)
		}
		return Changed{at}, nil
	}
	return Changed{}, fmt.Errorf("unknown change %q", ch.Kind)
}

// replace gives an endpoint another address.
func (c *changer) replace(service, endpoint int) (time.Time, error) {
	if service >= c.scene.Services {
		return time.Time{}, fmt.Errorf("service %d of %d", service, c.scene.Services)
	}
	g := c.generations[service]
	if g == nil {
		g = make([]int, c.scene.Endpoints)
		c.generations[service] = g
	}
	g[endpoint]++
	row := c.scene.madeSet(service, g)
	at := time.Now()
	return at, c.write(func(w *writer) { put(w, c.store.Endpoints, row) })
}

// entry makes a service outside the mesh that proxies resolve by DNS.
func (c *changer) entry(n int) (time.Time, error) {
	name := fmt.Sprintf("entry-%d", n)
	host := EntryHost(n)
	svc := &model.Service{
		Host: host, Cluster: Cluster, Namespace: "bench", Name: name, Origin: model.FromServiceEntry, Created: time.Now(),
		Resolution: model.ByDNS, External: true,
		Addresses: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{240, 240, byte(n >> 8), byte(n)}), 32)},
		Ports:     []model.Port{{Name: "http", Number: 80, Protocol: model.HTTP, Target: 80}},
	}
	set := &model.EndpointSet{Host: host, Cluster: Cluster, Namespace: "bench", Name: name,
		Endpoints: []model.Endpoint{{Address: host, Ports: map[string]uint16{"http": 80}}}}
	at := time.Now()
	return at, c.write(func(w *writer) {
		put(w, c.store.Services, svc)
		put(w, c.store.Endpoints, set)
	})
}

// EntryHost is the host of ServiceEntry number n.
func EntryHost(n int) string { return fmt.Sprintf("entry-%d.example.com", n) }

func (c *changer) write(f func(*writer)) error {
	txn := c.store.Write()
	defer txn.Abort()
	w := writer{txn: txn}
	f(&w)
	if w.err != nil {
		return w.err
	}
	txn.Commit()
	return nil
}
