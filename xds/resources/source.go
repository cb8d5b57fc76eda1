package resources

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"weak"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

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

	// mu guards everything below: builds are short, bound by the processor,
	// and shared, so they run one at a time.
	mu       sync.Mutex
	catalogs map[model.ClusterID]*catalog
	scopes   map[scopeKey]*scope
	views    map[string]weak.Pointer[view]
	// places are where Views stand, as of the last look; Views that came
	// since are added as they come.
	places map[vantage]bool

	built atomic.Uint64
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
	return &Source{
		store:    store,
		cfg:      cfg,
		hub:      newHub(store),
		catalogs: map[model.ClusterID]*catalog{},
		scopes:   map[scopeKey]*scope{},
		views:    map[string]weak.Pointer[view]{},
		places:   map[vantage]bool{},
	}, nil
}

// Run watches the tables until ctx ends.
func (s *Source) Run(ctx context.Context) error { return s.hub.run(ctx) }

// Built is how many resources were built and encoded so far.
func (s *Source) Built() uint64 { return s.built.Load() }

// encode builds a resource and counts it.
func (s *Source) encode(name string, m proto.Message) *serve.Resource {
	s.built.Add(1)
	return resource(name, m)
}

// View implements serve.Source. It blocks until the local cluster has been read
// once. A proxy of a cluster that is not known is refused: what it sees would
// have to be kept for it, and nobody could say what that is.
func (s *Source) View(ctx context.Context, n serve.Node) (serve.View, <-chan struct{}, error) {
	p, err := readNode(n)
	if err != nil {
		return nil, nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if err := s.waitSynced(ctx); err != nil {
		return nil, nil, status.Errorf(codes.Unavailable, "discovery has not read its cluster yet: %v", err)
	}
	if err := s.knows(p.cluster); err != nil {
		return nil, nil, err
	}
	// Watching begins before reading, so that no change falls between.
	changed := s.hub.watchProxy(ctx, p)
	txn := s.store.Read()
	w := s.workload(txn, p)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.viewOf(txn, p, w), changed, nil
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

// knows refuses a cluster that this control plane does not read. The error is
// passing: the cluster may be on its way.
func (s *Source) knows(cluster model.ClusterID) error {
	if _, _, ok := s.store.Clusters.Get(s.store.Read(), s.store.Clusters.ByKey(string(cluster))); ok {
		return nil
	}
	return status.Errorf(codes.Unavailable, "discovery does not read a cluster %.100q: its own is %q; "+
		"the proxy's CLUSTER_ID comes from values.global.multiCluster.clusterName of the installation that injected it", cluster, s.cfg.Cluster)
}

// workload is the proxy's pod as its cluster shows it, or, when the cluster
// does not know it (yet), as the proxy describes itself.
func (s *Source) workload(txn model.ReadTxn, p *proxy) *model.Workload {
	if w, _, ok := s.store.Workloads.Get(txn, s.store.Workloads.ByKey(model.WorkloadKey(p.cluster, p.namespace, p.name))); ok {
		return w
	}
	return &model.Workload{
		Cluster: p.cluster, Namespace: p.namespace, Name: p.name, Account: p.account,
		Labels: p.labels, Network: p.network, Locality: p.locality, TLS: true,
	}
}

// viewOf finds or makes the View for the workload. The lock is held.
func (s *Source) viewOf(txn model.ReadTxn, p *proxy, w *model.Workload) *view {
	from := vantage{cluster: p.cluster, network: cmpOr(p.network, w.Network), locality: w.Locality}
	if from.locality == "" {
		from.locality = p.locality
	}
	known := s.catalogFor(txn, p.cluster)
	if known.nodes {
		from.node = w.Node
	}
	v := &view{source: s, scope: scopeKey{p.cluster, p.namespace}, from: from}
	var services []*model.Service
	for svc := range s.store.Services.List(txn, s.store.InNamespace(p.cluster, p.namespace)) {
		services = append(services, svc)
	}
	text := ""
	switch p.kind {
	case xds.KindRouter:
		var gateways []*model.Gateway
		for gw := range s.store.Gateways.All(txn) {
			gateways = append(gateways, gw)
		}
		v.gateway = newGateway(w, services, gateways, s.store.Mesh(txn, s.cfg.Cluster).RootNamespace)
		v.from.passthrough = true
		text = v.gateway.text()
	default:
		policy := known.peers.in(w.Namespace).of(w.Labels)
		v.inbound = newInbound(w, services, &policy)
		text = v.inbound.text()
	}
	v.key = fmt.Sprintf("%s~%s/%s~%s~%s~%s~%s", p.kind, p.cluster, p.namespace, from.network, from.locality, from.node, text)
	if old, ok := s.views[v.key]; ok {
		if shared := old.Value(); shared != nil {
			return shared
		}
	}
	// Views are kept by the streams that use them; the map only lets others
	// join.
	s.views[v.key] = weak.Make(v)
	s.places[v.from] = true
	runtime.AddCleanup(v, s.dropDead, v.key)
	return v
}

// Views lists the keys of the Views in use, sorted.
func (s *Source) Views() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetDead()
	keys := make([]string, 0, len(s.views))
	for k := range s.views {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
