package kube

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/compile"
	"github.com/isthmus-mesh/isthmus/model"
)

// Clients are the ways to one API server.
type Clients struct {
	Kube    kubernetes.Interface
	Dynamic dynamic.Interface
	// Metadata reads objects' metadata alone; only NotHonoured asks by it.
	Metadata metadata.Interface
}

// NewClients makes the clients for a cluster. The client's own rate limit is
// off: the API server limits fairly by itself.
func NewClients(cfg *rest.Config) (Clients, error) {
	typed, dyn := typedConfig(cfg), rest.CopyConfig(cfg)
	dyn.QPS = -1
	k, err := kubernetes.NewForConfig(typed)
	if err != nil {
		return Clients{}, fmt.Errorf("client for %s: %w", cfg.Host, err)
	}

	d, err := dynamic.NewForConfig(dyn)
	if err != nil {
		return Clients{}, fmt.Errorf("client for %s: %w", cfg.Host, err)
	}

	m, err := metadata.NewForConfig(metadata.ConfigFor(dyn))
	if err != nil {
		return Clients{}, fmt.Errorf("client for %s: %w", cfg.Host, err)
	}
	return Clients{Kube: k, Dynamic: d, Metadata: m}, nil
}

// NewClientsOver makes the clients for a remote cluster, whose requests go through
// c, which knows the server's certificate and how the client proves itself. Of cfg
// only the place of the server counts. There is none for Metadata.
func NewClientsOver(cfg *rest.Config, c *http.Client) (Clients, error) {
	k, err := kubernetes.NewForConfigAndClient(typedConfig(cfg), c)
	if err != nil {
		return Clients{}, fmt.Errorf("client for %s: %w", cfg.Host, err)
	}

	dyn := rest.CopyConfig(cfg)
	dyn.QPS = -1
	d, err := dynamic.NewForConfigAndClient(dyn, c)
	if err != nil {
		return Clients{}, fmt.Errorf("client for %s: %w", cfg.Host, err)
	}
	return Clients{Kube: k, Dynamic: d}, nil
}

// typedConfig is for objects with generated types: protobuf costs the API server
// a fraction of JSON. Other objects do not come in it.
func typedConfig(cfg *rest.Config) *rest.Config {
	typed := rest.CopyConfig(cfg)
	typed.QPS = -1
	typed.ContentType = "application/vnd.kubernetes.protobuf"
	typed.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	return typed
}

// Config sets up a Reader.
type Config struct {
	// Cluster is the id that all rows carry.
	Cluster model.ClusterID
	// Network is the one that the cluster's pods are in where neither the
	// cluster nor the mesh configuration says otherwise; it may be empty.
	Network string
	// ClusterDomain is the suffix of service names; cluster.local when empty.
	ClusterDomain string
	// GlobalDomain is the suffix of names of services in other clusters; global
	// when empty.
	GlobalDomain string
	// Namespace is that of the control plane; istio-system when empty.
	Namespace string
	// MeshConfigMap names the ConfigMap with the mesh configuration; empty
	// for clusters that have none to give.
	MeshConfigMap string
	// Revision is the control plane's own: objects with the label istio.io/rev
	// of another are that one's. "default" when empty.
	Revision string
	// Remote is for a cluster that somebody else watches over: of it only what
	// runs there is read, and what of that it exports, but no configuration;
	// whoever runs the Reader looks whether the API server answers; and what was there of the cluster before
	// the Reader, an earlier one's rows, stays until all is read.
	Remote bool
	// TakeOver, when set, is called once when all is read, before anything is
	// written: whoever else writes the cluster's rows must have stopped when it
	// returns. When it is false, another takes over: Run ends.
	TakeOver func() bool
	// GivenRanges are those out of which the mesh itself gives addresses to
	// hosts: a ServiceEntry may take none of them, as it may not take those of
	// Services. Which address a host is given, anybody can work out.
	GivenRanges []netip.Prefix
	// Status, when set, is told of objects that are skipped.
	Status *StatusWriter
	Logger *slog.Logger
}

func (c *Config) complete() error {
	if c.Cluster == "" {
		return fmt.Errorf("kube: Config.Cluster is empty; every row carries the id of its cluster")
	}
	if c.ClusterDomain == "" {
		c.ClusterDomain = api.DefaultClusterDomain
	}
	if c.Revision == "" {
		c.Revision = api.DefaultRevision
	}
	if c.Namespace == "" {
		c.Namespace = api.DefaultNamespace
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return nil
}

// Reader reads one cluster into a Store.
type Reader struct {
	cfg      Config
	clients  Clients
	store    *model.Store
	log      *slog.Logger
	queue    *queue
	kinds    *kinds
	builtins *builtins
	synced   []cache.InformerSynced

	// Of the writing goroutine alone:
	nodes         map[string]compile.Node
	atNodes       map[ref]bool      // Services whose addresses are those of nodes
	distributions map[string]string // what namespaces say of their Services' calls, where they do
	entryKeys     map[string]bool   // keys of the rows made from ServiceEntries
	entrancesTold map[ref]string    // what was last said of Services as ways in

	// mu guards what follows: the writing goroutine changes it, and the
	// validating webhook asks.
	mu        sync.Mutex
	entries   map[ref]*api.Object  // valid ServiceEntries
	addresses map[ref][]netip.Addr // of Services
	ranges    map[ref][]netip.Prefix
	told      map[ref]outcome // what was last said of objects that are not wholly in force
	meshTold  string          // what was last said of the mesh configuration

	events record.EventRecorder // made by Run
}

// NewReader makes a Reader. Run starts it.
func NewReader(store *model.Store, clients Clients, cfg Config) (*Reader, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}

	r := &Reader{
		cfg: cfg, clients: clients, store: store, queue: newQueue(),
		log:           cfg.Logger.With("cluster", string(cfg.Cluster)),
		nodes:         map[string]compile.Node{},
		distributions: map[string]string{},
		atNodes:       map[ref]bool{},
		entryKeys:     map[string]bool{},
		entrancesTold: map[ref]string{},
		entries:       map[ref]*api.Object{},
		addresses:     map[ref][]netip.Addr{},
		ranges:        map[ref][]netip.Prefix{},
		told:          map[ref]outcome{},
	}
	r.kinds = newKinds(r)

	var err error
	r.builtins, r.synced, err = r.newBuiltins()
	return r, err
}

// Run reads the cluster until ctx ends. Errors of the API server are logged and
// tried again, for as long as it takes.
func (r *Reader) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	// The row is there before anything is read, so that readiness waits for it.
	r.setCluster(func(c *model.Cluster) {})
	for _, inf := range r.builtins.all() {
		wg.Go(func() { inf.RunWithContext(ctx) })
	}

	if !r.cfg.Remote {
		wg.Go(func() { r.heartbeat(ctx) })
		r.startEvents(ctx)
	}
	if err := r.kinds.start(ctx); err != nil {
		return nil
	}
	wg.Go(func() { r.kinds.follow(ctx) })
	if err := waitAll(ctx, r.synced); err != nil {
		return nil
	}

	if r.cfg.TakeOver != nil && !r.cfg.TakeOver() {
		return nil
	}
	if err := r.writeFirst(); err != nil {
		return err
	}
	r.log.Info("cluster read", "services", r.store.Services.NumObjects(r.store.Read()))

	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.queue.some:
			r.write(false)
		}
	}
}

// setCluster changes the row of the cluster itself.
func (r *Reader) setCluster(change func(*model.Cluster)) {
	txn := r.store.Write()
	defer txn.Abort()
	r.setClusterIn(txn, change)
	txn.Commit()
}

func (r *Reader) setClusterIn(txn model.WriteTxn, change func(*model.Cluster)) {
	r.store.ChangeClusterIn(txn, r.cfg.Cluster, func(c *model.Cluster) {
		c.DefaultNetwork = r.cfg.Network
		change(c)
	})
}

// Intervals of the look whether the API server is there.
const (
	heartbeatEvery   = 10 * time.Second
	heartbeatTimeout = 5 * time.Second
)

// heartbeat marks the cluster stale while its API server does not answer.
func (r *Reader) heartbeat(ctx context.Context) {
	tick := time.NewTicker(heartbeatEvery)
	defer tick.Stop()

	failed, stale := 0, false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}

		if err := r.ping(ctx); err != nil && ctx.Err() == nil {
			failed++
			if failed == 2 { // one may be an API server that is restarted
				stale = true
				r.log.Warn("the API server does not answer; what was last read of the cluster stays in force", "error", err)
				r.setCluster(func(c *model.Cluster) { c.Stale, c.Since = true, time.Now() })
			}
			continue
		}

		failed = 0
		if stale {
			stale = false
			r.log.Info("the API server answers again")
			r.setCluster(func(c *model.Cluster) { c.Stale, c.Since = false, time.Time{} })
		}
	}
}

// ping asks for something that costs the server nothing. Any answer will do,
// a refusal too.
func (r *Reader) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, heartbeatTimeout)
	defer cancel()

	rc := r.clients.Kube.Discovery().RESTClient()
	if rc == nil {
		return nil // a fake client
	}

	res := rc.Get().AbsPath("/version").Do(ctx)
	var code int
	if res.StatusCode(&code); code != 0 {
		return nil
	}
	return res.Error()
}
