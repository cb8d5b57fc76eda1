package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/xds"
)

// Config is what a [Client] needs.
type Config struct {
	// Address of discovery, HOST:PORT. It is resolved at each connection.
	Address string
	// TLS gives the configuration for each connection; nil is plaintext.
	TLS func() (*tls.Config, error)
	// Authorize may add metadata, such as a token, to each stream; nil adds none.
	Authorize func(context.Context) (context.Context, error)
	// Node is sent with the first request of each stream.
	Node *corev3.Node
	// Handler takes the resources.
	Handler Handler
	// Names tells that the proxy answers DNS, and follows xds.TypeNameTable too.
	Names bool
	// Keep says where what is in force is kept for a restart; nil keeps nothing.
	Keep   *Keep
	Logger *slog.Logger
	// Registerer takes the metrics; none are kept when nil.
	Registerer prometheus.Registerer
}

// Client keeps one delta ADS stream. Its methods may be called from several
// goroutines.
type Client struct {
	cfg     Config
	metrics *metrics

	mu     sync.Mutex
	status Status
}

// Status is how the client stands with discovery.
type Status struct {
	Connected bool
	Since     time.Time // of Connected
	Err       error     // why the last stream ended or could not be opened
	Updated   time.Time // when the last update came
	Rejected  error     // the last refusal, until an update of its type is taken
}

// New checks cfg.
func New(cfg Config) (*Client, error) {
	switch {
	case cfg.Address == "":
		return nil, errors.New("xds client: no discovery address")
	case cfg.Node.GetId() == "":
		return nil, errors.New("xds client: no node id")
	case cfg.Handler == nil:
		return nil, errors.New("xds client: no handler")
	case cfg.Keep != nil && (cfg.Keep.File == "" || cfg.Keep.Owner == "" || cfg.Keep.Until == nil):
		return nil, errors.New("xds client: to keep the configuration takes a file, an owner, and a time until when")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Client{cfg: cfg, metrics: newMetrics(cfg.Registerer)}, nil
}

// types are those that the client follows.
func (c *Client) types() []string {
	return slices.DeleteFunc(xds.Types(), func(t string) bool { return t == xds.TypeNameTable && !c.cfg.Names })
}

// Status tells how the client stands.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

// Err is nil while the stream is open, and says else what keeps it from being
// so: "cannot reach discovery ADDRESS: …".
func (c *Client) Err() error {
	s := c.Status()
	if s.Connected {
		return nil
	}
	if s.Err == nil {
		return fmt.Errorf("not yet connected to discovery %s", c.cfg.Address)
	}
	return s.Err
}

func (c *Client) set(f func(*Status)) {
	c.mu.Lock()
	f(&c.status)
	c.mu.Unlock()
}

// Run keeps the stream until ctx ends, and returns nil then. Every failure is
// retried: after 0.1 s at first, growing to 5 s, with a random part, so that a
// fleet does not come back in step. A stream that discovery has ended in good
// order, as it does with old ones, is no failure; what is in force stays known,
// so that the next stream brings only what has changed between the two. With
// Config.Keep, the handler has what was kept before the first stream is opened.
func (c *Client) Run(ctx context.Context) error {
	state := newState(c.types(), c.cfg.Keep != nil)
	if c.cfg.Keep != nil {
		c.restore(state)
		k := newKeeper(c, state)
		var written sync.WaitGroup
		defer written.Wait()
		written.Go(func() { k.run(ctx) })
	}

	failures := 0
	for {
		answered, err := c.session(ctx, state)
		if ctx.Err() != nil {
			return nil
		}
		if answered {
			failures = 0
		}
		wait := retryIn(failures)
		failures++
		c.lost(answered, err, wait)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// lost notes that a stream has ended, and why.
func (c *Client) lost(answered bool, err error, wait time.Duration) {
	inOrder := answered && errors.Is(err, io.EOF)
	switch {
	case inOrder:
		err = fmt.Errorf("discovery %s has ended the stream in good order", c.cfg.Address)
	case answered:
		err = fmt.Errorf("lost discovery %s: %w", c.cfg.Address, plain(err))
	default:
		err = fmt.Errorf("cannot reach discovery %s: %w", c.cfg.Address, plain(err))
	}
	c.set(func(s *Status) { s.Connected, s.Since, s.Err = false, time.Now(), err })
	c.metrics.connected.Set(0)
	if inOrder {
		c.cfg.Logger.Info("opening another stream", "reason", err)
		return
	}
	c.cfg.Logger.Warn("no discovery", "error", err, "retry", wait)
}

// plain drops the wrapping that gRPC puts around its errors.
func plain(err error) error {
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	msg := strings.TrimPrefix(s.Message(), "connection error: desc = ")
	return errors.New(strings.Trim(msg, `"`))
}

// retryIn is the pause after n failures in a row: it grows to 5 s, so that a
// control plane that is back is found within seconds, and is spread by half
// either way, so that a thousand proxies do not come at once.
func retryIn(n int) time.Duration {
	d := 100 * time.Millisecond
	for range min(n, 20) {
		d = d * 8 / 5
	}
	d = min(d, 5*time.Second)
	return time.Duration(float64(d) * (0.5 + rand.Float64()))
}

// session opens one stream and follows it to its end. It tells whether discovery
// has answered at least once.
func (c *Client) session(ctx context.Context, state *state) (answered bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	creds := insecure.NewCredentials()
	if c.cfg.TLS != nil {
		cfg, err := c.cfg.TLS()
		if err != nil {
			return false, err
		}
		creds = credentials.NewTLS(cfg)
	}
	if c.cfg.Authorize != nil {
		if ctx, err = c.cfg.Authorize(ctx); err != nil {
			return false, err
		}
	}

	conn, err := grpc.NewClient("passthrough:///"+c.cfg.Address, dialOptions(creds)...)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	rpc, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return false, err
	}

	s := &session{client: c, rpc: rpc, state: state, responses: make(chan *discoveryv3.DeltaDiscoveryResponse), ended: make(chan error, 1)}
	go s.receive(ctx)
	err = s.follow(ctx)
	return s.answered, err
}

// window is how much of discovery's answers may be under way: the resources
// of a mesh of a thousand services.
const window = 4 << 20

func dialOptions(creds credentials.TransportCredentials) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithDisableServiceConfig(),
		// Fixed windows: without them gRPC measures the line with a ping per
		// answer.
		grpc.WithStaticStreamWindowSize(window),
		grpc.WithStaticConnWindowSize(window),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1 << 30)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: 3 * time.Second}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	}
}

// metrics are those of the client.
type metrics struct {
	connected prometheus.Gauge
	updates   *prometheus.CounterVec
	rejects   *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	byType := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"type"})
	}
	m := &metrics{
		connected: prometheus.NewGauge(prometheus.GaugeOpts{Name: "isthmus_proxy_xds_connected", Help: "1 while the stream to discovery is open."}),
		updates:   byType("isthmus_proxy_xds_updates_total", "Updates from discovery, by type."),
		rejects:   byType("isthmus_proxy_xds_updates_rejected_total", "Updates from discovery that were refused in part or whole, by type."),
	}
	if reg != nil {
		reg.MustRegister(m.connected, m.updates, m.rejects)
	}
	return m
}
