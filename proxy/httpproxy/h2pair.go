package httpproxy

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/isthmus-mesh/isthmus/proxy/telemetry"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

// maxReplay bounds the part of a request body that is kept until the response begins, so that the request can
// be sent again when the endpoint did not look at it.
const maxReplay = 64 << 10

// pair is a request that came by HTTP/2 and goes on by HTTP/2: what comes on one stream is sent on the other as
// it comes. It is the sink of the downstream stream; answers is that of the upstream one. Lock order: pair, then
// connection.
type pair struct {
	srv    *h2server
	down   *h2stream
	req    h2request
	fields []hpack.HeaderField // for the endpoint

	mu        sync.Mutex
	call      call
	up        *h2stream // nil while there is none
	answers   *answers
	end       bool // the request came to its end
	trailers  []hpack.HeaderField
	replay    []byte // the body so far, until the response begins
	waiting   int    // the last part of replay: it came while there was no upstream stream to give room back for it
	lostBody  bool   // replay does not hold all of it
	responded bool
	done      bool
	tries     int
	pipe      *h2pipe // set when the HTTP/1 side has the request
	tried     []*upstream.Endpoint
	cause     error // why the last try failed
	timer     *time.Timer

	moved   int64 // what had moved when it was last looked at, and since when
	movedAt time.Time

	received, sent atomic.Int64
}

// resolve finds the route and the cluster, or says what to answer.
func (p *pair) resolve() (*target, *failure) {
	h, c := p.srv.h, &p.call
	q := &target{
		method: p.req.method, authority: p.req.authority, path: normalizePath(h.hcm, p.req.path),
		grpc: p.req.grpc, header: p.req.lookup, destination: p.srv.info.Local.Addr(),
	}
	if h.hcm.StripAnyHostPort {
		q.authority = withoutPort(q.authority)
	}
	t := h.routes.table()
	if t != nil {
		c.route = t.find(q)
	}
	if c.route == nil {
		return nil, noRoute(t, q)
	}
	if f := c.route.local(p.srv.info, q); f != nil {
		return nil, f
	}
	ref := c.route.cluster()
	if c.cluster = ref.Load(); c.cluster == nil {
		return nil, noCluster(c.route, ref.Name())
	}
	if c.route.timeout > 0 {
		c.deadline = c.start.Add(c.route.timeout)
	}
	return q, nil
}

// encode makes the head for the endpoint.
func (p *pair) encode(q *target) {
	rt := p.call.route
	authority := q.authority
	if rt.Action.HostRewrite != "" {
		authority = rt.Action.HostRewrite
	}
	rest := p.req.policy(p.srv.h, p.srv.info, &p.srv.cert, rt)
	p.fields = make([]hpack.HeaderField, 0, len(rest)+4)
	p.fields = append(p.fields,
		hpack.HeaderField{Name: ":method", Value: p.req.method},
		hpack.HeaderField{Name: ":scheme", Value: p.req.scheme},
		hpack.HeaderField{Name: ":authority", Value: authority},
		hpack.HeaderField{Name: ":path", Value: rt.rewrite(q.path)})
	p.fields = append(p.fields, rest...)
}

// start sends the request: at once when there is a connection with room for it, else from a goroutine. It is
// called with the lock held.
func (p *pair) start() {
	if !p.call.deadline.IsZero() {
		p.timer = time.AfterFunc(time.Until(p.call.deadline), p.timeout)
	}
	ep, err := p.call.cluster.Pick(p.hint())
	if err == nil {
		pool := p.srv.h.server.pool(ep)
		if conn := pool.h2.ready(); conn != nil && p.attach(ep, pool, conn) {
			return
		}
	}
	go p.connect(ep)
}

func (p *pair) hint() upstream.Hint {
	return upstream.Hint{OriginalDst: p.srv.info.Local, Tried: p.tried}
}

// connect tries endpoints until one takes the request: first, when it is given, then others.
func (p *pair) connect(first *upstream.Endpoint) {
	var last error
	for range 32 { // a round is a try, unless a connection filled up meanwhile
		p.mu.Lock()
		hint := p.hint()
		over := p.done || p.tries >= p.call.route.retries.limit()
		p.mu.Unlock()
		if over {
			break
		}
		ep := first
		if first = nil; ep == nil {
			var err error
			if ep, err = pick(p.call.cluster, hint); err != nil {
				if last == nil {
					last = err
				}
				break
			}
		}
		pool := p.srv.h.server.pool(ep)
		conn, err := pool.h2.get(context.Background())
		p.mu.Lock()
		if err != nil {
			p.tries++
			p.tried = append(p.tried, ep)
			p.call.ep = ep
			last = err
			p.mu.Unlock()
			continue
		}
		ok := p.done || p.attach(ep, pool, conn)
		p.mu.Unlock()
		if ok {
			return
		}
		last = errNoStreams
	}
	if last == nil {
		last = errors.New("no endpoint took the request")
	}
	p.fail(last)
}

// attach opens the upstream stream and sends what came so far. It is called with the lock held.
func (p *pair) attach(ep *upstream.Endpoint, pool *endpointPool, conn *h2conn) bool {
	bare := p.end && len(p.replay) == 0 && p.trailers == nil
	a := &answers{p}
	fields := p.fields
	if host := ep.Hostname(); host != "" && p.call.route.Action.AutoHost {
		fields = append([]hpack.HeaderField(nil), fields...)
		fields[2].Value = host
	}
	free := len(p.replay) - p.waiting // room for that was given back by the stream that carried it first
	st, err := conn.open(fields, bare, a, p.down, free)
	if err != nil {
		return false
	}
	p.tries++
	p.waiting = 0
	p.call.ep, p.call.pool, p.call.idempotent = ep, pool, isIdempotent(p.req.method)
	p.up, p.answers = st, a
	ep.Begin()
	p.down.setSource(st)
	if limit := p.call.route.retries.tryTimeout(); limit > 0 {
		time.AfterFunc(limit, a.tryTimeout) // does nothing once the response has begun
	}
	if bare {
		return true
	}
	p.down.credit(st.send(p.replay, p.end && p.trailers == nil))
	if p.trailers != nil {
		st.sendTrailers(p.trailers)
	}
	return true
}

// data implements h2sink for what the caller sends.
func (p *pair) data(b []byte, end bool) {
	p.received.Add(int64(len(b)))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end = p.end || end
	if p.pipe != nil {
		p.pipe.data(b, end)
		return
	}
	if p.done {
		p.down.credit(len(b))
		return
	}
	if !p.responded && !p.lostBody {
		if len(p.replay)+len(b) > maxReplay && p.up != nil {
			p.lostBody, p.replay = true, nil
		} else {
			p.replay = append(p.replay, b...)
			if p.up == nil {
				p.waiting += len(b)
			}
		}
	}
	if p.up != nil {
		p.down.credit(p.up.send(b, end))
	}
}

// headers implements h2sink: after the request head only trailers come.
func (p *pair) headers(fields []hpack.HeaderField, end bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end = true
	if p.pipe != nil {
		p.pipe.headers(fields, end)
		return
	}
	p.trailers = append([]hpack.HeaderField{}, cleanTrailers(fields)...)
	if p.up != nil && !p.done {
		p.up.sendTrailers(p.trailers)
	}
}

// cleanTrailers drops what must not stand in a trailer, in place.
func cleanTrailers(fields []hpack.HeaderField) []hpack.HeaderField {
	kept := fields[:0]
	for _, f := range fields {
		if !f.IsPseudo() && trailerAllowed(identify([]byte(f.Name))) {
			kept = append(kept, f)
		}
	}
	return kept
}

// reset implements h2sink: the caller gave up.
func (p *pair) reset(code http2.ErrCode, refused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pipe != nil {
		p.pipe.reset(code, refused)
		return
	}
	if p.done {
		return
	}
	if p.up != nil {
		p.up.reset(http2.ErrCodeCancel)
	}
	p.call.outcome.Flag = telemetry.FlagDownstreamClosed
	p.finish()
}

// timeout is called when the time for the request is over.
func (p *pair) timeout() {
	p.mu.Lock()
	if p.done {
		p.mu.Unlock()
		return
	}
	if p.up != nil {
		p.up.reset(http2.ErrCodeCancel)
	}
	p.mu.Unlock()
	p.fail(errTimeout)
}

// openEntry begins an access log entry.
func (p *pair) openEntry() {
	e := telemetry.NewEntry(p.srv.info)
	e.Start = p.call.start
	e.Method, e.Path, e.Authority, e.Scheme = p.req.method, p.req.path, p.req.authority, p.req.scheme
	e.Protocol = "HTTP/2"
	e.RequestHeaders = values(p.srv.h.log.RequestHeaders(), p.req.lookup)
	p.call.entry = e
}
