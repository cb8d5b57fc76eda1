package clusters

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/isthmus-mesh/isthmus/internal/wake"
	"github.com/isthmus-mesh/isthmus/kube"
	"github.com/isthmus-mesh/isthmus/model"
)

// Config sets up a Set.
type Config struct {
	// Cluster is the control plane's own; a Secret may not name it.
	Cluster model.ClusterID
	// Client talks to the API server of the own cluster.
	Client kubernetes.Interface
	// Namespace is that of the control plane: its Secrets count.
	Namespace string
	// ClusterDomain, GlobalDomain and Revision are as for the own cluster, see
	// kube.Config.
	ClusterDomain, GlobalDomain, Revision string
	// Options are what kubeconfigs may have beside the harmless.
	Options []Option
	Logger  *slog.Logger
}

// Set is the other clusters of the mesh. It is safe for concurrent use.
type Set struct {
	cfg     Config
	store   *model.Store
	log     *slog.Logger
	timing  timing
	secrets cache.SharedIndexInformer
	looked  wake.Signal // a Secret has changed
	changed wake.Signal // a cluster's state has changed; the leader looks
	tokens  wake.Signal // a token may be another; the leader looks
	began   time.Time

	// mu is taken before a member's, never with one held.
	mu      sync.Mutex
	members map[model.ClusterID]*member
	refused []candidate
	// listed tells that the Secrets were looked at once.
	listed bool
	// told is which refusals were told of, by Secret and cluster.
	told map[string]string

	events record.EventRecorder // made by Run before there is a member
}

// New makes a Set of no clusters. Run finds them.
func New(store *model.Store, cfg Config) (*Set, error) {
	switch {
	case cfg.Cluster == "":
		return nil, fmt.Errorf("kube/clusters: Config.Cluster is empty; give the id of the own cluster")
	case cfg.Client == nil || cfg.Namespace == "":
		return nil, fmt.Errorf("kube/clusters: Config.Client and Config.Namespace say where the Secrets are; one is missing")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}

	s := &Set{
		cfg: cfg, store: store, log: cfg.Logger, timing: defaultTiming(),
		looked: wake.NewSignal(), changed: wake.NewSignal(), tokens: wake.NewSignal(), began: time.Now(),
		members: map[model.ClusterID]*member{}, told: map[string]string{},
	}
	s.secrets = informers.NewSharedInformerFactoryWithOptions(cfg.Client, 0,
		informers.WithNamespace(cfg.Namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = LabelSecret + "=true" }),
	).Core().V1().Secrets().Informer()
	_, err := s.secrets.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { s.looked.Send() },
		UpdateFunc: func(any, any) { s.looked.Send() },
		DeleteFunc: func(any) { s.looked.Send() },
	})
	return s, err
}

// Run follows the Secrets and reads their clusters until ctx ends. It may be
// called once.
func (s *Set) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: s.cfg.Client.CoreV1().Events(s.cfg.Namespace)})
	s.events = broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "istiod"})
	s.mu.Lock()
	s.began = time.Now()
	s.mu.Unlock()

	wg.Go(func() { s.secrets.RunWithContext(ctx) })
	if !cache.WaitForCacheSync(ctx.Done(), s.secrets.HasSynced) {
		return nil
	}

	for {
		s.look(ctx)
		select {
		case <-ctx.Done():
			s.stopAll()
			return nil
		case <-s.looked:
		}
	}
}

// Lead does what one replica does for all, until ctx ends: it renews tokens, and
// keeps the last states of clusters that are gone.
func (s *Set) Lead(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { (&stateKeeper{set: s}).run(ctx) })
	wg.Go(func() { (&renewer{set: s}).run(ctx) })
}

// look makes the clusters that are read those that the Secrets name.
func (s *Set) look(ctx context.Context) {
	var secrets []*corev1.Secret
	for _, obj := range s.secrets.GetStore().List() {
		if secret, ok := obj.(*corev1.Secret); ok {
			secrets = append(secrets, secret)
		}
	}
	chosen, refused := choose(secrets, s.cfg.Cluster, s.cfg.Options)

	s.mu.Lock()
	gone := map[model.ClusterID]*member{}
	for id, m := range s.members {
		if _, stays := chosen[id]; stays {
			continue
		}
		if i := slices.IndexFunc(refused, func(c candidate) bool { return c.cluster == id }); i >= 0 {
			// An edit that is wrong harms nothing that works.
			m.reject(refused[i].refused.Error())
			continue
		}
		gone[id] = m
		delete(s.members, id)
	}
	for id, c := range chosen {
		if m := s.members[id]; m != nil {
			m.use(c)
			continue
		}
		s.members[id] = newMember(s, c)
		s.members[id].start(ctx)
		s.log.Info("a cluster joins", "cluster", string(id), "secret", c.secret.Name)
	}
	s.refused, s.listed = refused, true
	s.tellRefusedLocked()
	s.mu.Unlock()

	for id, m := range gone {
		m.stop()
		s.store.Drop(id)
		s.log.Info("a cluster was taken out: all that was known of it is dropped", "cluster", string(id))
	}
	s.changed.Send()
	s.tokens.Send()
}

// tellRefusedLocked tells of each refusal once.
func (s *Set) tellRefusedLocked() {
	still := map[string]string{}
	for _, c := range s.refused {
		key, why := c.secret.Name+"/"+string(c.cluster), c.refused.Error()
		still[key] = why
		if s.told[key] == why {
			continue
		}
		s.log.Warn("a Secret for another cluster is refused", "secret", c.secret.Name, "cluster", string(c.cluster), "error", c.refused)
		s.event(c.secret, "Refused", strings.TrimPrefix("cluster "+string(c.cluster)+": ", "cluster : ")+why)
	}
	s.told = still
}

// maxEventMessage bounds an Event's message, bytes: the API server refuses longer
// ones.
const maxEventMessage = 1000

// event makes an Event on a Secret, in its own time: nobody waits for it.
func (s *Set) event(secret *corev1.Secret, reason, message string) {
	if len(message) > maxEventMessage {
		message = strings.ToValidUTF8(message[:maxEventMessage], "") + " …"
	}
	s.events.Event(secret, corev1.EventTypeWarning, reason, message)
}

func (s *Set) stopAll() {
	var wg sync.WaitGroup
	for _, m := range s.all() {
		wg.Go(m.stop)
	}
	wg.Wait()
}

// all are the members, by name.
func (s *Set) all() []*member {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*member, 0, len(s.members))
	for _, m := range s.members {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b *member) int { return strings.Compare(string(a.id), string(b.id)) })
	return out
}

// Client asks the API server of a cluster, on the connections by which it is
// read. It is nil for a cluster that no Secret names.
func (s *Set) Client(id model.ClusterID) kubernetes.Interface { return s.Clients(id).Kube }

// Clients are all ways to the API server of a cluster, on the connections by which
// it is read, but for Metadata. They are nil for a cluster that no Secret names.
func (s *Set) Clients(id model.ClusterID) kube.Clients {
	s.mu.Lock()
	m := s.members[id]
	s.mu.Unlock()
	if m == nil {
		return kube.Clients{}
	}
	return m.clients()
}

// WaitRead waits until every cluster that answers was read, but no longer than
// some seconds since Run: a cluster that is slow or gone is not to hold back the
// others.
func (s *Set) WaitRead(ctx context.Context) {
	s.mu.Lock()
	left := s.timing.start - time.Since(s.began)
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()

	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !s.readAll() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Set) readAll() bool {
	return s.isListed() && !slices.ContainsFunc(s.all(), func(m *member) bool { return !m.settled() })
}

func (s *Set) isListed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listed
}
