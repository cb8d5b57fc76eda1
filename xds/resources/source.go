package resources

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"log/slog"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"weak"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// Config sets up a Source.
type Config struct {
	// Cluster is the one that the control plane runs in: its mesh
	// configuration holds, and its first synchronisation is waited for.
	Cluster model.ClusterID
	// GlobalDomain is the suffix under which clusters with control planes of
	// their own know each other's services: NAME.NAMESPACE.GLOBALDOMAIN. It is
	// "global" by default.
	GlobalDomain string
	Logger       *slog.Logger
}

// Source maps proxies to Views over the tables of a Store. It implements
// serve.Source and is safe for concurrent use; Run must be running.
type Source struct {
	store *model.Store
	cfg   Config
	hub   *hub

	// mu guards everything below, and all that is remembered: builds are
	// short, bound by the processor, and shared, so they run one at a time.
	mu sync.Mutex
	// round is that of the last reader.
	round uint64

	// What there is once for the mesh.
	mesh     answer[meshOf, *model.Mesh]
	rules    answer[rulesOf, *rules]
	hashing  answer[hashingOf, *rules]
	virtuals answer[virtualsOf, *virtuals]
	// connections are they where any routes connections; else nil.
	connections answer[connectionVirtualsOf, *virtuals]
	sidecars    answer[sidecarsOf, *sidecars]
	peers       answer[peersOf, *peers]
	policies    memo[policyOf, *namespacePolicy]
	access      answer[accessOf, *accessPolicies]
	tokens      answer[authenticationsOf, *authentications]
	gateways    answer[gatewaysOf, *gateways]
	members     answer[membershipOf, *membership]
	given       answer[allocationOf, *allocation]
	counted     answer[namespacesOf, *namespaces]
	exports     answer[exportedOf, *exported]
	compared    answer[comparedOf, *compared]
	hosts       memo[hostsOf, *hosts]
	// nameTables are those of namespaces that see all hosts.
	nameTables memo[nameTableOf, *serve.Resource]

	// What there is for the proxies that are connected; see forget.go.
	scopes map[scopeKey]*scope
	places map[place]*place
	views  map[string]weak.Pointer[view]
	// inForce are the rules that were in force when it was last forgotten
	// what was built by others.
	inForce *rules

	built    atomic.Uint64
	reported atomic.Pointer[Report]
}

// New makes a Source.
func New(store *model.Store, cfg Config) (*Source, error) {
	if cfg.Cluster == "" {
		return nil, fmt.Errorf("xds/resources: Config.Cluster is empty; give the id of the local cluster")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	cfg.GlobalDomain = cmp.Or(cfg.GlobalDomain, "global")

	s := &Source{
		store:  store,
		cfg:    cfg,
		hub:    newHub(store, cfg.Cluster),
		scopes: map[scopeKey]*scope{},
		places: map[place]*place{},
		views:  map[string]weak.Pointer[view]{},
	}
	s.mesh.question = meshOf{s}
	s.rules.question = rulesOf{s}
	s.hashing.question = hashingOf{s}
	s.virtuals.question = virtualsOf{s}
	s.connections.question = connectionVirtualsOf{s}
	s.sidecars.question = sidecarsOf{s}
	s.peers.question = peersOf{s}
	s.access.question = accessOf{s}
	s.tokens.question = authenticationsOf{s}
	s.gateways.question = gatewaysOf{s}
	s.members.question = membershipOf{s}
	s.given.question = allocationOf{s}
	s.counted.question = namespacesOf{s}
	s.exports.question = exportedOf{s}
	s.compared.question = comparedOf{s}
	return s, nil
}

// newReaderLocked begins a reading of the tables as they are now. Snapshots are
// taken with the lock held, so that no reader sees an older one than the reader
// before it.
func (s *Source) newReaderLocked() *reader {
	s.round++
	return &reader{txn: s.store.Read(), round: s.round}
}

// meshOf asks for the mesh configuration of the local cluster, which holds for
// all proxies.
type meshOf struct{ source *Source }

// build compares by value: what the mesh has by default is made anew each time,
// and a configuration is often written again as it was.
func (q meshOf) build(r *reader, old *model.Mesh) *model.Mesh {
	s := q.source
	mesh := readRow(r, &s.store.Meshes, string(s.cfg.Cluster))
	if mesh == nil {
		mesh = model.DefaultMesh(s.cfg.Cluster)
	}
	if reflect.DeepEqual(old, mesh) {
		return old
	}
	if old != nil && reflect.DeepEqual(old.Locality, mesh.Locality) {
		// Load assignments are remembered by it (order).
		kept := *mesh
		kept.Locality = old.Locality
		return &kept
	}
	return mesh
}

// Run watches the tables until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	var telling sync.WaitGroup
	defer telling.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	telling.Go(func() { s.tell(ctx) })
	return s.hub.run(ctx)
}

// Built is how many resources were built and encoded so far.
func (s *Source) Built() uint64 { return s.built.Load() }

// View implements serve.Source. It blocks until the local cluster has been read
// once. Who may connect of a cluster that is not read, strangers.go says.
func (s *Source) View(ctx context.Context, n serve.Node) (serve.View, <-chan struct{}, error) {
	p, err := readNode(n)
	if err != nil {
		return nil, nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if err := s.waitSynced(ctx); err != nil {
		return nil, nil, status.Errorf(codes.Unavailable, "discovery has not read its cluster yet: %v", err)
	}
	// Watching begins before reading, so that no change falls between.
	changed := s.hub.watchProxy(ctx, p)

	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.newReaderLocked()
	if err := s.admitLocked(r, p, n.Identity); err != nil {
		return nil, nil, err
	}
	return s.viewLocked(r, p, s.workload(r.txn, p)), changed, nil
}

func (s *Source) waitSynced(ctx context.Context) error {
	for {
		c, _, watch, ok := s.store.Clusters.GetWatch(s.store.Read(), s.store.Clusters.ByKey(string(s.cfg.Cluster)))
		if ok && c.Synced {
			return nil
		}
		select {
		case <-watch:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// workload is the proxy's pod as its cluster shows it, or, when the cluster
// does not know it (yet), as the proxy describes itself.
func (s *Source) workload(txn model.ReadTxn, p *proxy) *model.Workload {
	if w, _, ok := s.store.Workloads.Get(txn, s.store.Workloads.ByKey(model.WorkloadKey(p.cluster, p.namespace, p.name))); ok {
		return w
	}
	return &model.Workload{
		Cluster: p.cluster, Namespace: p.namespace, Name: p.name, Account: p.account,
		Labels: p.labels, Network: p.labels[labelNetwork], Locality: p.locality, TLS: true,
	}
}

// viewLocked finds or makes the View for the workload.
func (s *Source) viewLocked(r *reader, p *proxy, w *model.Workload) *view {
	from := place{
		cluster: p.cluster, network: s.members.get(r).ofProxy(p, w), locality: cmp.Or(w.Locality, p.locality),
	}
	compared := s.compared.get(r)
	from.labels = clientLabels(compared.labels, w.Labels)
	if compared.node || s.hosts.get(r, hostsOf{s, p.cluster}).nodes {
		from.node = w.Node
	}
	services := slices.Collect(firsts(s.store.Services.List(r.txn, s.store.InNamespace(p.cluster, p.namespace))))

	var in *inbound
	var gw *gateway
	var text string
	var seen *egress
	hasSecrets := false
	if p.kind == xds.KindRouter {
		gw = newGateway(w, services, slices.Collect(firsts(s.store.Gateways.All(r.txn))), s.mesh.get(r).RootNamespace)
		gw.access, gw.tokens = s.access.get(r).selecting(w), s.tokens.get(r).selecting(w)
		hasSecrets = s.mayHaveSecrets(r, p)
		text = fmt.Sprint(gw.text(), "~", hasSecrets)
	} else {
		// Not remembered: a workload says itself which namespace it is in.
		policy := s.peers.get(r).in(w.Namespace).of(w.Labels)
		in = newInbound(w, services, &policy)
		in.access, in.tokens = s.access.get(r).selecting(w), s.tokens.get(r).selecting(w)
		text = in.text()
		seen = newEgress(s.sidecars.get(r).of(w.Namespace, w.Labels), w.Namespace)
	}
	if p.hostsApart {
		text += "~vhds"
	}
	traits := s.virtuals.get(r).traits(p.namespace, w.Labels)
	key := fmt.Sprintf("%s~%s/%s~%s~%s~%s~%s~%s~%s~%s", p.kind, p.cluster, p.namespace, from.network, from.locality, from.node, from.labels, seen.text(), traits, text)
	if old, ok := s.views[key]; ok {
		if shared := old.Value(); shared != nil {
			return shared
		}
	}

	v := newView(s, key, s.scopeLocked(scopeKey{p.cluster, p.namespace, seen.text(), traits}, seen))
	v.inbound, v.gateway, v.hostsApart, v.hasSecrets = in, gw, p.hostsApart, hasSecrets
	v.places = s.placesLocked(from)
	v.from = v.places[allNeeds]
	// Views are kept by the streams that use them; the map only lets others
	// join.
	s.views[key] = weak.Make(v)
	runtime.AddCleanup(v, s.dropDead, key)
	return v
}

// firsts are the rows of a query, without their revisions.
func firsts[R any](query iter.Seq2[R, uint64]) iter.Seq[R] {
	return func(yield func(R) bool) {
		for row := range query {
			if !yield(row) {
				return
			}
		}
	}
}

// scopeLocked finds or makes a scope.
func (s *Source) scopeLocked(key scopeKey, seen *egress) *scope {
	sc := s.scopes[key]
	if sc == nil {
		sc = newScope(s, key, seen)
		s.scopes[key] = sc
	}
	return sc
}

// Views lists the keys of the Views in use, sorted.
func (s *Source) Views() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetDeadLocked()
	keys := make([]string, 0, len(s.views))
	for k := range s.views {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
