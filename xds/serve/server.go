package serve

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/xds"
)

// Config tunes a [Server]. The zero Config is good.
type Config struct {
	// AllowPlaintext takes streams of connections without TLS as nobody's,
	// without asking the Authenticator: for a port that only trusted peers
	// reach. Streams over TLS are always authenticated.
	AllowPlaintext bool
	// Quiet is how long the first change after a pause waits for others, and
	// MaxWait how long changes that do not end wait at most; 5 ms and 100 ms
	// when zero.
	Quiet, MaxWait time.Duration
	// FirstRequest is how long a stream waits for its first request; 10 s
	// when zero.
	FirstRequest time.Duration
	// MaxAge is about how long a stream lasts: it ends in good order after 80
	// to 100 % of it, for the proxy to connect anew; 30 min when zero, as
	// Istio has it. Connections last as long, and then as long again for
	// streams that began late.
	MaxAge time.Duration
	// Farewell is the time over which streams are ended when the server stops;
	// zero is all at once.
	Farewell time.Duration
	Logger   *slog.Logger
	// Registerer takes the metrics; none are kept when nil.
	Registerer prometheus.Registerer
}

func (c *Config) complete() {
	if c.Quiet <= 0 {
		c.Quiet = 5 * time.Millisecond
	}
	if c.MaxWait < c.Quiet {
		c.MaxWait = max(100*time.Millisecond, c.Quiet)
	}
	if c.FirstRequest <= 0 {
		c.FirstRequest = 10 * time.Second
	}
	if c.MaxAge <= 0 {
		c.MaxAge = 30 * time.Minute
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// Server is envoy.service.discovery.v3.AggregatedDiscoveryService.
type Server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	src     Source
	auth    Authenticator
	cfg     Config
	hash    hasher
	metrics *metrics
	lastID  atomic.Uint64

	stopping atomic.Bool   // no stream is taken any more
	stop     chan struct{} // closed when Run ends
	life     sync.Mutex
	stopped  bool           // under life
	wg       sync.WaitGroup // Add only by spawn

	mu      sync.Mutex
	groups  map[string]*group
	streams map[*stream]struct{}
	shed    map[string]sheds // by node id
}

// New makes a server. auth may be nil only with AllowPlaintext, and then TLS
// streams are refused.
func New(src Source, auth Authenticator, cfg Config) *Server {
	cfg.complete()
	return &Server{
		src: src, auth: auth, cfg: cfg, hash: newHasher(), metrics: newMetrics(cfg.Registerer),
		stop:   make(chan struct{}),
		groups: make(map[string]*group), streams: make(map[*stream]struct{}), shed: make(map[string]sheds),
	}
}

// Limits of a connection.
const (
	// streamWindow is how much of a stream may be under way from a proxy: its
	// largest request lists the versions of all that it has.
	streamWindow = 1 << 20
	// maxMessage is that request's size in bytes, at the most: names and
	// versions of some thirty thousand resources.
	maxMessage = 4 << 20
	// maxHeaders bounds the headers of a call in bytes, its token included.
	maxHeaders = 32 << 10
	// maxStreams is how many calls one connection may have open. A proxy has
	// two at most: its stream, and a certificate request.
	maxStreams = 100
	// handshakeTime is for the TLS handshake and the preface of HTTP/2, and
	// idleTime for a connection without a call.
	handshakeTime = 10 * time.Second
	idleTime      = 5 * time.Minute
)

// GRPCOptions are the options that a gRPC server for thousands of long-lived
// streams wants. [Server] needs them: it sends answers that only its own codec
// knows. Other services on the same gRPC server do not notice.
func (s *Server) GRPCOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: 30 * time.Second, Timeout: 10 * time.Second,
			MaxConnectionIdle: idleTime,
			// After MaxConnectionAge, with gRPC's own jitter of a tenth, the
			// connection takes no further streams (GOAWAY). Those that it has
			// end by themselves within the grace, so that none is cut off.
			MaxConnectionAge: s.cfg.MaxAge, MaxConnectionAgeGrace: s.cfg.MaxAge,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.ConnectionTimeout(handshakeTime),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.ReadBufferSize(4 << 10),
		grpc.WriteBufferSize(16 << 10),
		// Fixed windows: without them gRPC measures the line with a ping per
		// request, which costs as much as the request.
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(streamWindow),
		grpc.ForceServerCodecV2(newCodec()),
	}
}

// Register adds the service to a gRPC server.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(r, s)
}

// spawn runs f on a goroutine that Run waits for. After Run it does nothing:
// all streams are ending then.
func (s *Server) spawn(f func()) {
	s.life.Lock()
	defer s.life.Unlock()
	if !s.stopped {
		s.wg.Go(f)
	}
}

func (s *Server) newSnapshot(names *nameSet, res Set, since time.Time) *snapshot {
	return &snapshot{id: s.lastID.Add(1), names: names, res: res, since: since}
}

// join adds a stream to the group of its View.
func (s *Server) join(v View) *group {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[v.Key()]
	if g == nil {
		g = newGroup(s, v)
		s.groups[g.key] = g
	}
	g.refs++
	return g
}

// leave takes a stream out of a group. The last one ends it.
func (s *Server) leave(g *group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g.refs--
	if g.refs == 0 {
		delete(s.groups, g.key)
		close(g.gone)
	}
}

var errStopping = status.Error(codes.Unavailable, "discovery is stopping")

// admit finds out who the caller is, before anything is read from it.
func (s *Server) admit(ctx context.Context) (Node, error) {
	var n Node
	p, ok := peer.FromContext(ctx)
	if ok && p.Addr != nil {
		if ap, err := netip.ParseAddrPort(p.Addr.String()); err == nil {
			n.Peer = ap
		}
	}

	if s.cfg.AllowPlaintext && (!ok || p.AuthInfo == nil || p.AuthInfo.AuthType() != "tls") {
		return n, nil
	}

	if s.auth == nil {
		return n, status.Error(codes.Unauthenticated, "this server takes no streams over TLS")
	}
	proof, err := s.auth.Authenticate(ctx)
	if err != nil {
		s.metrics.refused.Inc()
		s.cfg.Logger.Warn("stream refused", "peer", n.Peer.String(), "error", err)
		return n, err
	}
	n.Identity, n.Cluster = proof.ID, proof.Cluster
	return n, nil
}

// name completes n by what the first request says, and checks that it says
// nothing that was not proven.
func (n *Node) name(core *corev3.Node) error {
	core, err := trim(core)
	if err != nil {
		return err
	}
	id, err := xds.ParseNodeID(core.GetId())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	if n.Identity != (identity.ID{}) && id.Namespace != n.Identity.Namespace {
		return status.Errorf(codes.PermissionDenied, "node id %q is of namespace %s, but the caller is %s", core.GetId(), id.Namespace, n.Identity)
	}
	if claimed := core.GetMetadata().GetFields()["CLUSTER_ID"].GetStringValue(); n.Cluster != "" && claimed != n.Cluster {
		return status.Errorf(codes.PermissionDenied, "node id %q says that it is of cluster %.100q, but its token is of %q", core.GetId(), claimed, n.Cluster)
	}
	n.ID, n.Core = id, core
	return nil
}

// viewError keeps the code of a Source's error, and takes one without a code as
// passing.
func viewError(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return status.FromContextError(err).Err()
	}
	return status.Error(codes.Unavailable, err.Error())
}

// labelType is the name of a type in metrics. Proxies may ask for any type, and
// each would be a time series for ever: those that we have none of are one.
func labelType(typeURL string) string {
	if xds.Known(typeURL) {
		return xds.Short(typeURL)
	}
	return "other"
}
