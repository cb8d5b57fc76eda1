package resources

import (
	"context"
	"sync"

	"github.com/cilium/statedb"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
)

// hub turns changes of the tables into the channels that streams wait for: one
// per resource type, and one per proxy for the question which View it has. One
// goroutine does it all.
type hub struct {
	store *model.Store

	mu     sync.Mutex
	topics map[string]chan struct{}
	// log lists the hosts whose endpoints changed.
	log changeLog
	// proxies are waiting streams by pod, and by namespace.
	pods       map[string]map[*waiter]struct{}
	namespaces map[scopeKey]map[*waiter]struct{}
	// nodeServices are those for which a client's node matters: while there
	// is one, proxies of different nodes have different Views.
	nodeServices map[string]bool
}

// waiter is one stream's channel. It is closed at most once, with hub.mu held.
type waiter struct {
	ch    chan struct{}
	fired bool
	pod   string
	scope scopeKey
	// release takes the waiter off its context. Without it, each of a
	// stream's waiters would stay there until the stream ends.
	release func() bool
}

func newHub(store *model.Store) *hub {
	h := &hub{
		store:      store,
		topics:     map[string]chan struct{}{},
		pods:       map[string]map[*waiter]struct{}{},
		namespaces: map[scopeKey]map[*waiter]struct{}{},

		nodeServices: map[string]bool{},
	}
	for _, t := range []string{xds.TypeCluster, xds.TypeEndpoint, xds.TypeListener, xds.TypeRoute} {
		h.topics[t] = make(chan struct{})
	}
	return h
}

// topic is closed when a resource of the type may have changed. Types that the
// mesh does not have never change. The log tells of all changes that were
// announced so far.
func (h *hub) topic(typeURL string) (<-chan struct{}, changeLog) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.topics[typeURL], h.log
}

// watchProxy is closed when the proxy's View may be another one. It is
// forgotten when ctx ends.
func (h *hub) watchProxy(ctx context.Context, p *proxy) <-chan struct{} {
	w := &waiter{
		ch:    make(chan struct{}),
		pod:   model.WorkloadKey(p.cluster, p.namespace, p.name),
		scope: scopeKey{p.cluster, p.namespace},
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	add(h.pods, w.pod, w)
	add(h.namespaces, w.scope, w)
	w.release = context.AfterFunc(ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.remove(w)
	})
	return w.ch
}

func add[K comparable](m map[K]map[*waiter]struct{}, k K, w *waiter) {
	set := m[k]
	if set == nil {
		set = map[*waiter]struct{}{}
		m[k] = set
	}
	set[w] = struct{}{}
}

func (h *hub) remove(w *waiter) {
	delete(h.pods[w.pod], w)
	if len(h.pods[w.pod]) == 0 {
		delete(h.pods, w.pod)
	}
	delete(h.namespaces[w.scope], w)
	if len(h.namespaces[w.scope]) == 0 {
		delete(h.namespaces, w.scope)
	}
}

func (h *hub) fire(set map[*waiter]struct{}) {
	for w := range set {
		if !w.fired {
			w.fired = true
			close(w.ch)
			w.release()
		}
		h.remove(w)
	}
}

func (h *hub) fireAll() {
	for _, set := range h.namespaces {
		h.fire(set)
	}
}

// announce closes the channels of the types.
func (h *hub) announce(types ...string) {
	for _, t := range types {
		close(h.topics[t])
		h.topics[t] = make(chan struct{})
	}
}

// feed is the changes of one table since the last look.
type feed[R any] struct {
	it    statedb.ChangeIterator[R]
	watch <-chan struct{}
}

// next calls each with every changed row, and tells whether there was one.
func (f *feed[R]) next(txn model.ReadTxn, each func(R)) bool {
	any := false
	for {
		seq, watch := f.it.Next(txn)
		n := 0
		for c := range seq {
			n++
			if each != nil {
				each(c.Object)
			}
		}
		f.watch = watch
		if n == 0 {
			return any
		}
		any = true
	}
}

// feeds are the tables that the hub follows.
type feeds struct {
	services     feed[*model.Service]
	endpoints    feed[*model.EndpointSet]
	traits       feed[*model.Traits]
	workloads    feed[*model.Workload]
	destinations feed[*model.DestinationRule]
	peers        feed[*model.PeerAuthentication]
	gateways     feed[*model.Gateway]
	meshes       feed[*model.Mesh]
}

func (h *hub) open() (*feeds, error) {
	f := &feeds{}
	txn := h.store.Write()
	defer txn.Commit()
	var err error
	open := func(e error) {
		if err == nil {
			err = e
		}
	}
	open(openFeed(txn, h.store.Services, &f.services))
	open(openFeed(txn, h.store.Endpoints, &f.endpoints))
	open(openFeed(txn, h.store.Traits, &f.traits))
	open(openFeed(txn, h.store.Workloads, &f.workloads))
	open(openFeed(txn, h.store.Destinations, &f.destinations))
	open(openFeed(txn, h.store.Peers, &f.peers))
	open(openFeed(txn, h.store.Gateways, &f.gateways))
	open(openFeed(txn, h.store.Meshes, &f.meshes))
	return f, err
}

func openFeed[R any](txn model.WriteTxn, t statedb.Table[R], f *feed[R]) (err error) {
	f.it, err = t.Changes(txn)
	return err
}

func (f *feeds) close() {
	f.services.it.Close()
	f.endpoints.it.Close()
	f.traits.it.Close()
	f.workloads.it.Close()
	f.destinations.it.Close()
	f.peers.it.Close()
	f.gateways.it.Close()
	f.meshes.it.Close()
}

// run follows the tables until ctx ends.
func (h *hub) run(ctx context.Context) error {
	f, err := h.open()
	if err != nil {
		return err
	}
	defer f.close()
	for {
		h.pass(f)
		select {
		case <-ctx.Done():
			return nil
		case <-f.services.watch:
		case <-f.endpoints.watch:
		case <-f.traits.watch:
		case <-f.workloads.watch:
		case <-f.destinations.watch:
		case <-f.peers.watch:
		case <-f.gateways.watch:
		case <-f.meshes.watch:
		}
	}
}

// noteNodes keeps nodeServices up to date for a service that changed or is gone.
func (h *hub) noteNodes(txn model.ReadTxn, key string) {
	svc, _, ok := h.store.Services.Get(txn, h.store.Services.ByKey(key))
	if ok && svc.NodeMatters() {
		h.nodeServices[key] = true
	} else {
		delete(h.nodeServices, key)
	}
}

// pass announces all that changed since the last pass.
func (h *hub) pass(f *feeds) {
	txn := h.store.Read()
	h.mu.Lock()
	defer h.mu.Unlock()
	types := map[string]bool{}
	mark := func(changed bool, urls ...string) {
		for _, u := range urls {
			types[u] = types[u] || changed
		}
	}
	const cds, eds, lds, rds = xds.TypeCluster, xds.TypeEndpoint, xds.TypeListener, xds.TypeRoute
	nodesMattered := len(h.nodeServices) > 0
	mark(f.services.next(txn, func(svc *model.Service) {
		h.fire(h.namespaces[scopeKey{svc.Cluster, svc.Namespace}])
		h.noteNodes(txn, svc.Key())
	}), cds, eds, lds, rds)
	var hosts []string
	mark(f.endpoints.next(txn, func(e *model.EndpointSet) { hosts = append(hosts, e.Host) }), eds)
	h.log = h.log.add(hosts)
	mark(f.traits.next(txn, nil), cds, lds)
	mark(f.destinations.next(txn, nil), cds, eds)
	f.workloads.next(txn, func(w *model.Workload) { h.fire(h.pods[w.Key()]) })
	// Policies of the root namespace, gateways and the mesh configuration
	// reach everywhere; they change rarely.
	// Clients follow what servers accept, so policies reach them as well.
	everyone := f.peers.next(txn, nil)
	mark(everyone, cds, eds)
	everyone = everyone || nodesMattered != (len(h.nodeServices) > 0)
	everyone = f.gateways.next(txn, nil) || everyone
	if f.meshes.next(txn, nil) {
		everyone = true
		mark(true, cds, eds, lds, rds)
	}
	if everyone {
		h.fireAll()
	}
	for u, changed := range types {
		if changed {
			h.announce(u)
		}
	}
}
