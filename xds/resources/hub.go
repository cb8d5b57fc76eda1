package resources

import (
	"context"
	"reflect"
	"sync"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
)

// hub turns changes of the tables into the channels that streams wait for: one
// per resource type, and one per proxy for the question which View it has. One
// goroutine does it all.
type hub struct {
	store *model.Store
	// cluster is the one whose mesh configuration holds.
	cluster model.ClusterID

	mu     sync.Mutex
	topics map[string]chan struct{}
	// log lists the hosts whose endpoints changed.
	log changeLog
	// pods and namespaces hold the waiting streams by their pod, and by its
	// namespace.
	pods       map[string]map[*waiter]struct{}
	namespaces map[scopeKey]map[*waiter]struct{}
	// nodeServices are those for which a client's node matters: while there
	// is one, proxies of different nodes have different Views.
	nodeServices map[string]bool
	// compared is in what rules compare clients with endpoints, by the key of the
	// rule: proxies that differ in it have different Views.
	compared map[string]string
	// asked is what VirtualServices ask of clients' labels, by the key of the object.
	asked map[string]string
	// clusters are those whose row was seen, each with its network.
	clusters map[model.ClusterID]clusterNetwork
}

// clusterNetwork is what a cluster's row says of its network.
type clusterNetwork struct{ own, byDefault string }

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

func newHub(store *model.Store, cluster model.ClusterID) *hub {
	h := &hub{
		store:      store,
		cluster:    cluster,
		topics:     map[string]chan struct{}{},
		pods:       map[string]map[*waiter]struct{}{},
		namespaces: map[scopeKey]map[*waiter]struct{}{},

		nodeServices: map[string]bool{},
		compared:     map[string]string{},
		asked:        map[string]string{},
		clusters:     map[model.ClusterID]clusterNetwork{},
	}
	for _, t := range xds.Types() {
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
		scope: scopeKey{cluster: p.cluster, namespace: p.namespace},
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	add(h.pods, w.pod, w)
	add(h.namespaces, w.scope, w)
	w.release = context.AfterFunc(ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.removeLocked(w)
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

func (h *hub) removeLocked(w *waiter) {
	delete(h.pods[w.pod], w)
	if len(h.pods[w.pod]) == 0 {
		delete(h.pods, w.pod)
	}
	delete(h.namespaces[w.scope], w)
	if len(h.namespaces[w.scope]) == 0 {
		delete(h.namespaces, w.scope)
	}
}

// fireLocked tells waiters that their View may be another one. Each is told once,
// and then forgotten.
func (h *hub) fireLocked(set map[*waiter]struct{}) {
	for w := range set {
		if !w.fired {
			w.fired = true
			close(w.ch)
			w.release()
		}
		h.removeLocked(w)
	}
}

func (h *hub) fireAllLocked() {
	for _, set := range h.namespaces {
		h.fireLocked(set)
	}
}

// announceLocked closes the channel of a type.
func (h *hub) announceLocked(typeURL string) {
	close(h.topics[typeURL])
	h.topics[typeURL] = make(chan struct{})
}

// feeds are the tables that the hub follows: what changes with each, and what
// else is to be done for a row that changed. To follow one more table is one
// more line.
func (h *hub) feeds() []feed {
	const cds, eds, lds, rds, vhds, nds = xds.TypeCluster, xds.TypeEndpoint, xds.TypeListener, xds.TypeRoute, xds.TypeVirtualHost, xds.TypeNameTable
	const sds = xds.TypeSecret
	s := h.store
	return []feed{
		follow(s.Services, h.serviceChangedLocked, cds, eds, lds, rds, vhds, nds),
		follow(s.Endpoints, h.endpointsChangedLocked, eds),
		follow(s.Traits, nothing, cds, lds, nds),
		follow(s.Workloads, h.workloadChangedLocked),
		follow(s.Destinations, h.ruleChangedLocked, cds, eds, lds, rds, vhds),
		follow(s.Virtuals, h.virtualChangedLocked, cds, eds, lds, rds, vhds),
		// Policies of the root namespace, gateways and the mesh configuration
		// reach everywhere; they change rarely. Clients follow what servers
		// accept, so policies are about their clusters as well.
		follow(s.Peers, everyone, cds, eds),
		follow(s.Policies, func(f *found, p *model.AuthorizationPolicy) { h.policyChangedLocked(f, p.Namespace) }),
		follow(s.Authentications, func(f *found, a *model.RequestAuthentication) { h.policyChangedLocked(f, a.Namespace) }),
		follow(s.Gateways, everyone),
		follow(s.Credentials, nothing, sds),
		// A Sidecar decides which part of the mesh a proxy sees.
		follow(s.Sidecars, everyone),
		follow(s.Meshes, everyone, cds, eds, lds, rds, vhds, nds),
		// Networks decide where a proxy stands and which endpoints it reaches.
		follow(s.Networks, everyone, cds, eds, lds, rds, vhds, nds),
		follow(s.Clusters, h.clusterChangedLocked, cds, eds, lds, rds, vhds, nds),
		follow(s.Entrances, nothing, eds),
		follow(s.Names, nothing, eds),
		follow(s.Exports, nothing, cds, eds, lds, rds, vhds, nds),
		// Where the mesh selects namespaces, it does so by their labels.
		follow(s.Namespaces, nothing, cds, eds, lds, rds, vhds, nds),
	}
}

// found is what a pass over the feeds comes to.
type found struct {
	txn model.ReadTxn
	// types are those of which resources may have changed.
	types []string
	// everyone tells that any proxy may have another View.
	everyone bool
	// hosts are those whose endpoints changed.
	hosts []string
}

func nothing[R any](*found, R) {}

func everyone[R any](f *found, _ R) { f.everyone = true }

// serviceChangedLocked: the proxies of the namespace may have the service's ports
// now.
func (h *hub) serviceChangedLocked(f *found, svc *model.Service) {
	h.fireLocked(h.namespaces[scopeKey{cluster: svc.Cluster, namespace: svc.Namespace}])

	key := svc.Key()
	now, _, ok := h.store.Services.Get(f.txn, h.store.Services.ByKey(key))
	mattered := len(h.nodeServices) > 0
	if ok && now.NodeMatters() {
		h.nodeServices[key] = true
	} else {
		delete(h.nodeServices, key)
	}
	if mattered != (len(h.nodeServices) > 0) {
		f.everyone = true
	}
}

// policyChangedLocked: the proxies that a policy, or a RequestAuthentication, of a
// namespace may select are those of the namespace, or all.
func (h *hub) policyChangedLocked(f *found, namespace string) {
	if namespace == h.store.Mesh(f.txn, h.cluster).RootNamespace {
		f.everyone = true
		return
	}
	for key, set := range h.namespaces {
		if key.namespace == namespace {
			h.fireLocked(set)
		}
	}
}

// ruleChangedLocked: a rule may compare clients with endpoints in labels of theirs
// that made no difference before.
func (h *hub) ruleChangedLocked(f *found, rule *model.DestinationRule) {
	key, c := rule.Key(), compared{}
	if now, _, ok := h.store.Destinations.Get(f.txn, h.store.Destinations.ByKey(key)); ok {
		for s := range localitySettings(now) {
			c.add(s)
		}
	}
	if now := c.text(); now != h.compared[key] {
		f.everyone = true
		if h.compared[key] = now; now == "" {
			delete(h.compared, key)
		}
	}
}

// virtualChangedLocked: a VirtualService may ask for labels of clients that made no
// difference before.
func (h *hub) virtualChangedLocked(f *found, rule *model.VirtualService) {
	key, asks := rule.Key(), ""
	if now, _, ok := h.store.Virtuals.Get(f.txn, h.store.Virtuals.ByKey(key)); ok {
		asks = askedOf(now)
	}
	if asks != h.asked[key] {
		f.everyone = true
		if h.asked[key] = asks; asks == "" {
			delete(h.asked, key)
		}
	}
}

// clusterChangedLocked: a cluster's network decides where its proxies stand. Whether
// the cluster can be reached at the moment concerns nobody's View.
func (h *hub) clusterChangedLocked(f *found, c *model.Cluster) {
	now, _, ok := h.store.Clusters.Get(f.txn, h.store.Clusters.ByKey(c.Key()))
	before, known := h.clusters[c.ID]
	if ok {
		h.clusters[c.ID] = clusterNetwork{now.Network, now.DefaultNetwork}
	} else {
		delete(h.clusters, c.ID)
	}
	if ok != known || before != h.clusters[c.ID] {
		f.everyone = true
	}
}

func (h *hub) endpointsChangedLocked(f *found, e *model.EndpointSet) {
	f.hosts = append(f.hosts, e.Host)
	if h.store.Exports.NumObjects(f.txn) > 0 {
		// They are behind another name as well, if the service is exported.
		f.hosts = append(f.hosts, clusterSetName(e.Namespace, e.Name))
	}
}

func (h *hub) workloadChangedLocked(_ *found, w *model.Workload) { h.fireLocked(h.pods[w.Key()]) }

// run follows the tables until ctx ends.
func (h *hub) run(ctx context.Context) error {
	feeds := h.feeds()
	defer func() {
		for _, f := range feeds {
			f.close()
		}
	}()
	if err := h.open(feeds); err != nil {
		return err
	}

	// ctx is the first case, feed i is case i+1.
	cases := make([]reflect.SelectCase, 1+len(feeds))
	cases[0] = reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(ctx.Done())}
	for {
		h.pass(feeds)
		for i, f := range feeds {
			cases[i+1] = reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(f.changed())}
		}
		if chosen, _, _ := reflect.Select(cases); chosen == 0 {
			return nil
		}
	}
}

func (h *hub) open(feeds []feed) error {
	txn := h.store.Write()
	defer txn.Commit()
	for _, f := range feeds {
		if err := f.open(txn); err != nil {
			return err
		}
	}
	return nil
}

// pass announces all that changed since the last pass.
func (h *hub) pass(feeds []feed) {
	f := &found{txn: h.store.Read()}
	// Who asks because of this pass must find what is remembered outdated
	// (rowInput.changed).
	h.store.Settle()

	h.mu.Lock()
	defer h.mu.Unlock()
	for _, feed := range feeds {
		feed.pass(f)
	}
	h.log = h.log.add(f.hosts)
	if f.everyone {
		h.fireAllLocked()
	}
	for _, typeURL := range f.types {
		h.announceLocked(typeURL)
	}
}
