package httpproxy

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	nethttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/isthmus-mesh/isthmus/proxy/exchange"
	"github.com/isthmus-mesh/isthmus/proxy/http1"
	"github.com/isthmus-mesh/isthmus/proxy/http2"
	"github.com/isthmus-mesh/isthmus/proxy/routes"
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
	down   *http2.Stream
	req    h2request
	fields []hpack.HeaderField // for the endpoint

	mu        sync.Mutex
	call      call
	up        *http2.Stream // nil while there is none
	conn      *http2.Conn   // its connection
	answers   *answers
	answer    fieldList // the head of the answer as it goes to the caller
	end       bool      // the request came to its end
	trailers  []hpack.HeaderField
	replay    []byte // the body so far, until the answer begins
	waiting   int    // the last part of replay: it came while there was no upstream stream to give room back for it
	lostBody  bool   // replay does not hold all of it
	responded bool
	done      bool
	pipe      *h2pipe     // set when the HTTP/1 side has the request
	timer     *time.Timer // of the whole request; nil where it has no bound
	delay     *time.Timer // set while a fault holds the request up
	mirrors   []*mirror   // copies of the request
	mirrored  bool        // it had its turn to be copied
	chunked   bool        // the body goes to mirrors in chunks

	moved   int64 // what had moved when it was last looked at, and since when
	movedAt time.Time

	received, sent atomic.Int64
}

// target is what routing needs.
func (p *pair) target() routes.Target {
	return routes.Target{
		Method: p.req.method, Authority: p.req.authority, Path: p.req.path,
		GRPC: p.req.grpc, Header: p.req.joined, Destination: p.srv.info.Local.Addr(),
	}
}

// encode makes the head for the endpoint.
func (p *pair) encode(q *routes.Target) {
	rt := p.call.Route
	authority := q.Authority
	if rt.Action.HostRewrite != "" {
		authority = rt.Action.HostRewrite
	}
	exchange.EditRequest((*fieldList)(&p.req.fields), rt, p.srv.h.hcm, &p.srv.edge)

	p.fields = make([]hpack.HeaderField, 0, len(p.req.fields)+4)
	p.fields = append(p.fields,
		hpack.HeaderField{Name: ":method", Value: p.req.method},
		hpack.HeaderField{Name: ":scheme", Value: p.req.scheme},
		hpack.HeaderField{Name: ":authority", Value: authority},
		hpack.HeaderField{Name: ":path", Value: rt.Rewrite(q.Path)})
	p.fields = append(p.fields, p.req.fields...)
}

// startLocked sends the request: at once when there is a connection with room for it, else from a goroutine.
func (p *pair) startLocked() {
	if !p.call.Deadline.IsZero() {
		p.timer = time.AfterFunc(time.Until(p.call.Deadline), p.timeout)
	}
	ep, err := p.call.cluster.Pick(upstream.Hint{OriginalDst: p.srv.info.Local, Try: p.call.MayTry(), Hash: p.call.Hash})
	if err == nil {
		pool := p.srv.h.server.pool(ep)
		if conn := pool.h2.ready(); conn != nil && p.attachLocked(ep, pool, conn) {
			return
		}
	}
	go p.connect(ep)
}

// followLocked does what the exchange says next. code is what the caller's stream is reset with where the verdict is
// to break off.
func (p *pair) followLocked(v exchange.Verdict, code nethttp2.ErrCode) {
	switch v.Do {
	case exchange.Pick:
		p.up, p.answers = nil, nil
		go func() {
			pause(v.Wait)
			p.connect(nil)
		}()
	case exchange.Break:
		p.breakOffLocked(code)
	case exchange.Reply:
		p.replyLocked(v.Answer)
	}
}

// connect tries endpoints until one takes the request: first, when it is given, then others.
func (p *pair) connect(first *upstream.Endpoint) {
	for range 32 { // a round is a try, unless a connection filled up meanwhile
		ep, err := first, error(nil)
		if first = nil; ep == nil {
			ep, err = p.call.pick(p.srv.info) // nothing else picks for this request meanwhile
		}
		if err != nil {
			p.follow(func() exchange.Verdict { return p.call.NoEndpoint(err) })
			return
		}

		o := opening{server: p.srv.h.server, call: &p.call, info: p.srv.info, ep: ep, h2: true}
		ep, conn, err := o.run(context.Background())
		p.mu.Lock()
		if p.done || err == nil && p.attachLocked(ep, p.srv.h.server.pool(ep), conn.h2) {
			p.mu.Unlock()
			return
		}
		var full *upstream.OverflowError
		if errors.As(err, &full) {
			p.followLocked(p.call.Overflow(err), nethttp2.ErrCodeInternal)
			p.mu.Unlock()
			return
		}
		if err != nil {
			p.call.ep = ep
			v := p.call.heed(p.failedLocked(exchange.Unreachable, err))
			if v.Do != exchange.Pick {
				p.followLocked(v, nethttp2.ErrCodeInternal)
				p.mu.Unlock()
				return
			}
		}
		p.mu.Unlock()
	}
	p.follow(func() exchange.Verdict {
		return p.call.Failed(&exchange.Failure{Cause: exchange.NotSent, Err: http2.ErrNoStreams, Reused: true}, time.Now())
	})
}

// follow asks what comes next, unless the request is over, and does it.
func (p *pair) follow(next func() exchange.Verdict) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.done {
		p.followLocked(next(), nethttp2.ErrCodeInternal)
	}
}

// failedLocked reports a try that failed.
func (p *pair) failedLocked(c exchange.Cause, err error) exchange.Verdict {
	f := exchange.Failure{
		Cause: c, Err: err, BodyAtHand: !p.lostBody,
		Reused: c == exchange.NotSent, // a refused stream says nothing of the endpoint
	}
	if p.call.ep != nil {
		f.Endpoint = p.call.ep.Addr().String()
	}
	return p.call.Failed(&f, time.Now())
}

// attachLocked opens the upstream stream and sends what came so far. It reports false when the connection takes none.
func (p *pair) attachLocked(ep *upstream.Endpoint, pool *endpointPool, conn *http2.Conn) bool {
	bare := p.bareLocked()
	a := &answers{p}
	fields := p.fields
	if host := ep.Hostname(); host != "" && p.call.Route.Action.AutoHost {
		fields = append([]hpack.HeaderField(nil), fields...)
		fields[2].Value = host
	}
	if !ep.Begin() {
		p.followLocked(p.call.Overflow(p.call.cluster.Overflow()), nethttp2.ErrCodeInternal)
		return true
	}
	free := len(p.replay) - p.waiting // room for that was given back by the stream that carried it first
	st, err := conn.Open(fields, bare, a, p.down, free)
	if err != nil {
		ep.End()
		return false
	}

	now := p.call.onward
	if p.call.Tries() > 0 {
		now = time.Now()
	}
	p.call.Connected(now)
	p.waiting = 0
	p.call.ep, p.call.pool = ep, pool
	p.up, p.conn, p.answers = st, conn, a
	p.down.SetSource(st)
	if limit := p.call.Route.Retries.TryTimeout(); limit > 0 {
		time.AfterFunc(limit, a.tryTimeout) // does nothing once the answer has begun
	}
	if len(p.call.Route.Mirrors) > 0 && !p.mirrored {
		p.mirrorLocked()
	}

	if bare {
		return true
	}
	p.down.Credit(st.Send(p.replay, p.end && p.trailers == nil))
	if p.trailers != nil {
		st.SendTrailers(p.trailers)
	}
	return true
}

// bareLocked reports whether the request ends with its head.
func (p *pair) bareLocked() bool { return p.end && len(p.replay) == 0 && p.trailers == nil }

// Data implements http2.Sink for what the caller sends.
func (p *pair) Data(b []byte, end bool) {
	p.received.Add(int64(len(b)))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end = p.end || end

	if p.pipe != nil {
		p.pipe.Data(b, end)
		return
	}
	if p.done {
		p.down.Credit(len(b)) // nobody takes it, and the caller's other streams want the room
		return
	}

	if p.mirrors != nil {
		p.copyLocked(b)
		if end {
			p.endCopyLocked()
		}
	}

	// Until there is an answer, what came may have to be sent again, elsewhere.
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
		p.down.Credit(p.up.Send(b, end))
	}
}

// Headers implements http2.Sink: after the request head only trailers come.
func (p *pair) Headers(fields []hpack.HeaderField, end bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end = true
	if p.pipe != nil {
		p.pipe.Headers(fields, end)
		return
	}
	p.trailers = append([]hpack.HeaderField{}, cleanTrailers(fields)...)
	if p.mirrors != nil && !p.done {
		p.endCopyLocked()
	}
	if p.up != nil && !p.done {
		p.up.SendTrailers(p.trailers)
	}
}

// cleanTrailers drops what must not stand in a trailer, in place.
func cleanTrailers(fields []hpack.HeaderField) []hpack.HeaderField {
	kept := fields[:0]
	for _, f := range fields {
		if !f.IsPseudo() && http1.MayTrail(f.Name) {
			kept = append(kept, f)
		}
	}
	return kept
}

// Reset implements http2.Sink: the caller gave up.
func (p *pair) Reset(code nethttp2.ErrCode, refused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pipe != nil {
		p.pipe.Reset(code, refused)
		return
	}
	if p.done {
		return
	}
	if p.up != nil {
		p.up.Reset(nethttp2.ErrCodeCancel)
	}
	p.call.CallerGone()
	p.finishLocked()
}

// timeout is called when the time for the request is over.
func (p *pair) timeout() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.overLocked(exchange.Late)
}

// overLocked ends the request because it takes too long, for one of the causes that there are for that.
func (p *pair) overLocked(cause exchange.Cause) {
	switch {
	case p.done:
	case p.responded:
		p.up.Reset(nethttp2.ErrCodeCancel)
		p.call.Broke(cause)
		p.breakOffLocked(nethttp2.ErrCodeCancel)
	default:
		p.abandonTryLocked()
		p.followLocked(p.failedLocked(cause, errTimeout), nethttp2.ErrCodeCancel)
	}
}

// abandonTryLocked gives the upstream stream up, if there is one.
func (p *pair) abandonTryLocked() {
	if p.up != nil {
		p.up.Reset(nethttp2.ErrCodeCancel)
		p.call.ep.End()
		p.up, p.answers = nil, nil
	}
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
