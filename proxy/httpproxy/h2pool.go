package httpproxy

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/http2"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
	"github.com/isthmus-mesh/isthmus/xds"
)

// h2IdleTime is how long an HTTP/2 connection to an endpoint is kept without streams, where the cluster sets no
// bound.
const h2IdleTime = 5 * time.Minute

// h2pool keeps the HTTP/2 connections to one endpoint: one, and more as its streams run out.
type h2pool struct {
	pool *endpointPool

	mu      sync.Mutex
	conns   []*http2.Conn
	dialing *dialing
	retired bool
}

// dialing is a dial under way, shared by all that need its result.
type dialing struct {
	done chan struct{}
	conn *http2.Conn
	err  error
}

// ready returns the connection with the fewest streams that takes more, or nil.
func (p *h2pool) ready() *http2.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.readyLocked()
}

func (p *h2pool) readyLocked() *http2.Conn {
	var best *http2.Conn
	least := 0
	for _, c := range p.conns {
		if n, more := c.Load(); more && (best == nil || n < least) {
			best, least = c, n
		}
	}
	return best
}

// get returns a connection that takes streams, and opens one if there is none; where the cluster may have no more, it
// waits for one that has become free. Errors are those of upstream.Endpoint.Dial, the cause of ctx, and errTardy once
// tardy is closed, after which it may be called again.
func (p *h2pool) get(ctx context.Context, tardy <-chan struct{}) (*http2.Conn, error) {
	for first := true; ; first = false {
		c, late, err := p.getOrDial(ctx, tardy)
		if err != nil && !errors.Is(err, errTardy) && late && first && ctx.Err() == nil && p.pool.ep.Alone() {
			continue // that dial began before this request did: there is nowhere else to go, so it has one of its own
		}
		var full *upstream.OverflowError
		if !errors.As(err, &full) {
			return c, err
		}
		if err := p.pool.ep.Cluster().AwaitRoom(ctx); err != nil {
			return nil, err
		}
	}
}

// getOrDial returns a connection that takes streams, or waits for a dial. late says that it was under way already.
func (p *h2pool) getOrDial(ctx context.Context, tardy <-chan struct{}) (conn *http2.Conn, late bool, err error) {
	p.mu.Lock()
	if c := p.readyLocked(); c != nil {
		p.mu.Unlock()
		return c, false, nil
	}
	d := p.dialing
	late = d != nil
	if d == nil {
		d = &dialing{done: make(chan struct{})}
		p.dialing = d
		go p.dial(d)
	}
	p.mu.Unlock()
	select {
	case <-d.done:
		return d.conn, late, d.err
	case <-tardy:
		return nil, late, errTardy
	case <-ctx.Done():
		return nil, late, context.Cause(ctx)
	}
}

var errNotHTTP2 = errors.New("the endpoint does not speak HTTP/2: it agreed on no such protocol by ALPN")

func (p *h2pool) dial(d *dialing) {
	conn, alpn, err := p.pool.ep.Dial(context.Background(), config.ProtocolHTTP2)
	if err == nil && alpn != "" && alpn != "h2" && alpn != xds.ALPNHTTP2 && alpn != xds.ALPNMesh {
		_ = conn.Close()
		p.pool.ep.Hangup()
		err = errNotHTTP2
	}

	var c *http2.Conn
	if err == nil {
		p.pool.learn(conn)
		options := p.pool.ep.Cluster().Config().HTTP
		c = http2.NewClient(conn, p.pool.server.held, http2.ClientOptions{MaxOpen: options.MaxStreams, MaxTotal: options.MaxRequests})
		go c.WriteLoop()
		go p.serve(c)
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialing = nil
	d.conn, d.err = c, err
	if c != nil {
		if p.retired {
			c.Retire()
		}
		p.conns = append(p.conns, c)
	}
	close(d.done)
}

// Peers of the mesh are asked for a sign of life early where there is another endpoint to go to; that they answer PINGs
// as often is known. Others may take offence: gRPC servers end connections for it ("too_many_pings").
//
// Of a machine that is gone the kernel knows soon after the PING was sent, as nothing acknowledges it
// (upstream.Endpoint sets the bound). The answer is given by a process, which may be throttled for a while, and then
// loses all its callers' requests when it is not waited for: hence meshPatience. The machine that acknowledges for those
// behind a gateway is the gateway, so that there the answer is all that tells.
const (
	meshPing        = 500 * time.Millisecond
	meshPatience    = 3 * time.Second
	gatewayPatience = time.Second
	ping            = 10 * time.Second
)

// watchPeer looks for signs of life of a connection.
func (p *h2pool) watchPeer(c *http2.Conn) (stop func()) {
	return c.WatchPeer(signsOfLife(p.pool.ep))
}

// signsOfLife returns after which silence the peer is asked for one, and how long it may take to answer.
func signsOfLife(ep *upstream.Endpoint) (after, patience time.Duration) {
	switch own := ep.Cluster().Config().HTTP.Ping; {
	case own != nil:
		return own.Interval, own.Timeout
	case !ep.TLS().Mesh() || !ep.Impatient():
		return ping, ping
	case ep.AnswersForOthers():
		return meshPing, gatewayPatience
	}
	return meshPing, meshPatience
}

// serve reads from a connection until it is over, and drops it from the pool.
func (p *h2pool) serve(c *http2.Conn) {
	options := &p.pool.ep.Cluster().Config().HTTP
	stops := []func(){c.WatchIdle(idleLimit(options, h2IdleTime), c.Retire), p.watchPeer(c), c.WatchClock()}
	if options.MaxAge > 0 {
		age := time.AfterFunc(options.MaxAge, c.Retire)
		stops = append(stops, func() { age.Stop() })
	}
	_ = c.Serve() // streams were told why

	for _, stop := range stops {
		stop()
	}
	p.pool.ep.Hangup()
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, have := range p.conns {
		if have == c {
			p.conns = append(p.conns[:i:i], p.conns[i+1:]...)
			return
		}
	}
}

// retire lets the streams that are open end, and closes the connections then.
func (p *h2pool) retire() {
	p.mu.Lock()
	p.retired = true
	conns := p.conns
	p.mu.Unlock()
	for _, c := range conns {
		c.Retire()
	}
}
