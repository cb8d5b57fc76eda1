package fleet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// Config says which proxies there are, and where their server is.
type Config struct {
	Address string
	// TLS is nil for plaintext.
	TLS *tls.Config
	// Token is sent as a bearer token when not empty.
	Token string
	// Count is the number of proxies.
	Count int
	// Node makes the node of a proxy by its number.
	Node func(i int) *corev3.Node
	// Dial opens connections; nil is the ordinary way.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
}

// Fleet is the proxies.
type Fleet struct {
	cfg   Config
	atlas *atlas

	bytes, pushes, resources, connects atomic.Int64
	perKind                            [kinds]atomic.Int64 // bytes

	mu      sync.Mutex
	synced  int
	last    time.Time     // when the last proxy became synced
	allIn   chan struct{} // closed while all are synced
	watches []*Watch
	failure error
}

// Start starts the proxies. They run until ctx ends; done is closed then.
func Start(ctx context.Context, cfg Config) (f *Fleet, done <-chan struct{}) {
	f = &Fleet{cfg: cfg, atlas: newAtlas(), allIn: make(chan struct{})}
	ended := make(chan struct{})
	var wg sync.WaitGroup
	for i := range cfg.Count {
		wg.Go(func() { newProxy(f, i).run(ctx) })
	}
	go func() {
		wg.Wait()
		close(ended)
	}()
	return f, ended
}

// Traffic is what all proxies together have received.
type Traffic struct {
	Bytes, Pushes, Resources int64
	// Connects counts streams that were opened.
	Connects int64
	// ByKind is Bytes of clusters, endpoints, listeners, routes and virtual hosts.
	ByKind [kinds]int64
}

// Traffic adds up what came since the start.
func (f *Fleet) Traffic() Traffic {
	t := Traffic{Bytes: f.bytes.Load(), Pushes: f.pushes.Load(),
		Resources: f.resources.Load(), Connects: f.connects.Load()}
	for k := range f.perKind {
		t.ByKind[k] = f.perKind[k].Load()
	}
	return t
}

// Sub is the traffic since an earlier time.
func (t Traffic) Sub(o Traffic) Traffic {
	d := Traffic{Bytes: t.Bytes - o.Bytes, Pushes: t.Pushes - o.Pushes,
		Resources: t.Resources - o.Resources, Connects: t.Connects - o.Connects}
	for k := range t.ByKind {
		d.ByKind[k] = t.ByKind[k] - o.ByKind[k]
	}
	return d
}

// Synced waits until every proxy has everything that it asked for and has
// acknowledged it. It gives the moment in which that was so.
func (f *Fleet) Synced(ctx context.Context) (time.Time, error) {
	f.mu.Lock()
	in := f.allIn
	f.mu.Unlock()
	select {
	case <-in:
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.last, nil
	case <-ctx.Done():
		f.mu.Lock()
		defer f.mu.Unlock()
		return time.Time{}, errors.Join(fmt.Errorf("%d of %d proxies are in sync: %w", f.synced, f.cfg.Count, ctx.Err()), f.failure)
	}
}

func (f *Fleet) setSynced(in bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !in {
		if f.synced == f.cfg.Count {
			f.allIn = make(chan struct{})
		}
		f.synced--
		return
	}
	if f.synced++; f.synced == f.cfg.Count {
		f.last = time.Now()
		close(f.allIn)
	}
}

// fail keeps the last error of a stream, for the case that proxies never
// become synced.
func (f *Fleet) fail(err error) {
	f.mu.Lock()
	f.failure = err
	f.mu.Unlock()
}

// Watch waits for one resource to reach every proxy in another version than
// the proxy had.
type Watch struct {
	f        *Fleet
	kind     kind
	name     int32
	left     int
	done     chan struct{}
	last     time.Time
	arrivals []time.Time
}

// WatchEndpoints watches the endpoints of a cluster.
func (f *Fleet) WatchEndpoints(name string) *Watch { return f.watch(endpoints, name) }

// WatchClusters watches a cluster, which may not exist yet.
func (f *Fleet) WatchClusters(name string) *Watch { return f.watch(clusters, name) }

// WatchHosts watches a virtual host, ROUTECONFIG/HOST, which may not exist yet.
func (f *Fleet) WatchHosts(name string) *Watch { return f.watch(hosts, name) }

func (f *Fleet) watch(k kind, name string) *Watch {
	w := &Watch{f: f, kind: k, name: f.atlas.number([]byte(name)), left: f.cfg.Count, done: make(chan struct{})}
	f.mu.Lock()
	f.watches = append(f.watches, w)
	f.mu.Unlock()
	return w
}

// Wait gives the moment in which the last proxy had sent its acknowledgement,
// and that in which the first had.
func (w *Watch) Wait(ctx context.Context) (first, last time.Time, err error) {
	select {
	case <-w.done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	for i, o := range w.f.watches {
		if o == w {
			w.f.watches = append(w.f.watches[:i:i], w.f.watches[i+1:]...)
		}
	}
	if err != nil {
		return first, last, fmt.Errorf("%d of %d proxies did not get %s: %w",
			w.left, w.f.cfg.Count, w.f.atlas.string(w.name), errors.Join(err, w.f.failure))
	}
	return w.arrivals[0], w.last, nil
}

// arrived counts a change at one proxy, once it was acknowledged.
func (f *Fleet) arrived(k kind, changed []int32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.watches) == 0 {
		return
	}
	now := time.Now()
	for _, w := range f.watches {
		for _, name := range changed {
			if w.kind != k || w.name != name || w.left == 0 {
				continue
			}
			w.arrivals, w.last = append(w.arrivals, now), now
			if w.left--; w.left == 0 {
				close(w.done)
			}
		}
	}
}

// window is how much of a stream may be under way, as isthmus-proxy has it.
const window = 4 << 20

func (f *Fleet) dial() (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if f.cfg.TLS != nil {
		creds = credentials.NewTLS(f.cfg.TLS)
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(1<<30), grpc.MaxCallSendMsgSize(1<<30)),
		grpc.WithStaticStreamWindowSize(window), grpc.WithStaticConnWindowSize(window),
		grpc.WithWriteBufferSize(4 << 10), grpc.WithReadBufferSize(16 << 10),
	}
	if f.cfg.Dial != nil {
		opts = append(opts, grpc.WithContextDialer(f.cfg.Dial))
	}
	return grpc.NewClient("passthrough:///"+f.cfg.Address, opts...)
}

// pause is the wait before a new attempt: it grows, and is drawn so that the
// proxies do not come all at once.
func pause(attempt int) time.Duration {
	limit := min(50*time.Millisecond<<min(attempt, 6), 2*time.Second)
	return limit/2 + rand.N(limit/2)
}
