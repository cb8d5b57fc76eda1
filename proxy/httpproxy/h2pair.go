package httpproxy

import (
	"context"
	"errors"
	"net/http"
	"strconv"
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
	lostBody  bool   // replay does not hold all of it
	responded bool
	done      bool
	sentOnce  bool
	tries     int
	pipe      *h2pipe // set when the HTTP/1 side has the request
	tried     []*upstream.Endpoint
	timer     *time.Timer

	received, sent atomic.Int64
}

// answers receives what one upstream stream of a pair brings; it is stale once the pair has another.
type answers struct {
	p *pair
}

// resolve finds the route and the cluster, or says what to answer.
func (p *pair) resolve() (*target, *failure) {
	h, c := p.srv.h, &p.call
	q := &target{
		method: p.req.method, authority: p.req.authority, path: normalizePath(h.hcm, p.req.path),
		grpc: p.req.grpc, header: p.req.lookup,
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
	if ep, err := p.call.cluster.Pick(p.hint()); err == nil {
		pool := p.srv.h.server.pool(ep)
		if conn := pool.h2.ready(); conn != nil && p.attach(ep, pool, conn) {
			return
		}
	}
	go p.connect()
}

func (p *pair) hint() upstream.Hint {
	return upstream.Hint{OriginalDst: p.srv.info.Local, Tried: p.tried}
}

// connect picks endpoints until one takes the request.
func (p *pair) connect() {
	var last error
	for {
		p.mu.Lock()
		hint := p.hint()
		over := p.done || p.tries >= maxTries
		p.mu.Unlock()
		if over {
			break
		}
		ep, err := pick(p.call.cluster, hint)
		if err != nil {
			if last == nil {
				last = err
			}
			break
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
	free := 0
	if p.sentOnce { // room for what came so far was given back the first time
		free = len(p.replay)
	}
	st, err := conn.open(fields, bare, a, p.down, free)
	if err != nil {
		return false
	}
	p.tries++
	p.sentOnce = true
	p.call.ep, p.call.pool = ep, pool
	p.up, p.answers = st, a
	ep.Begin()
	p.down.setSource(st)
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

// headers implements h2sink for what the endpoint sends.
func (a *answers) headers(fields []hpack.HeaderField, end bool) {
	p := a.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.answers != a || p.done {
		return
	}
	if p.responded {
		p.trail(fields, end)
		return
	}
	status, rest, err := responseStatus(fields)
	if err != nil || status < 200 && end || status == 101 {
		p.up.reset(http2.ErrCodeProtocol)
		p.answer(upstreamFailure(p.call.cluster, p.call.ep, badRequest("its response has no valid status")))
		return
	}
	if status < 200 {
		p.down.sendHeaders(fields, false)
		return
	}
	p.responded, p.replay = true, nil
	p.call.outcome.Code = status
	p.call.ep.Report(outcomeOf(status))
	if p.call.grpc && end {
		v, _ := lookupField(rest, "grpc-status")
		p.call.outcome.GRPC = parseGRPCStatus(v)
	}
	if e := p.call.entry; e != nil {
		e.ResponseHeaders = values(p.srv.h.log.ResponseHeaders(), func(n string) (string, bool) { return lookupField(rest, n) })
	}
	p.down.sendHeaders(responseFields(p.srv.h, p.call.route, status, rest), end)
	if end {
		p.ended()
	}
}

// trail passes trailers on; it is called with the lock held.
func (p *pair) trail(fields []hpack.HeaderField, end bool) {
	if !end {
		p.up.reset(http2.ErrCodeProtocol)
		p.broken(http2.ErrCodeProtocol, telemetry.FlagUpstreamProtocol)
		return
	}
	if p.call.grpc {
		v, _ := lookupField(fields, "grpc-status")
		p.call.outcome.GRPC = parseGRPCStatus(v)
	}
	p.down.sendTrailers(cleanTrailers(fields))
	p.ended()
}

func (a *answers) data(b []byte, end bool) {
	p := a.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.answers != a || p.done {
		return
	}
	p.sent.Add(int64(len(b)))
	p.up.credit(p.down.send(b, end))
	if end {
		p.ended()
	}
}

// ended is called with the lock held when the response came to its end.
func (p *pair) ended() {
	if !p.end {
		p.up.reset(http2.ErrCodeNo)
	}
	p.finish()
}

func (a *answers) reset(code http2.ErrCode, refused bool) {
	p := a.p
	p.mu.Lock()
	if p.answers != a || p.done {
		p.mu.Unlock()
		return
	}
	if p.responded {
		flag := telemetry.FlagUpstreamReset
		if code == http2.ErrCodeConnect {
			flag, code = telemetry.FlagUpstreamTerminated, http2.ErrCodeInternal
		}
		p.broken(code, flag)
		p.mu.Unlock()
		return
	}
	again := !p.lostBody && p.tries < maxTries &&
		(refused || p.end && isIdempotent(p.req.method) && code == http2.ErrCodeConnect)
	cause := p.up.c.cause(code)
	p.call.ep.End()
	if !refused {
		p.call.ep.Report(upstream.OutcomeReset)
		p.tried = append(p.tried, p.call.ep)
	}
	p.up, p.answers = nil, nil
	if code == http2.ErrCodeCancel { // as a deadline that struck there first; the caller knows its own better
		p.broken(code, telemetry.FlagUpstreamReset)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	if again {
		go p.connect()
		return
	}
	p.fail(cause)
}

// broken passes on that the response broke off. It is called with the lock held.
func (p *pair) broken(code http2.ErrCode, flag telemetry.Flag) {
	p.call.outcome.Flag = flag
	p.down.reset(code)
	p.finish()
}

// fail answers for an endpoint that did not.
func (p *pair) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.responded && !p.done {
		p.broken(http2.ErrCodeCancel, telemetry.FlagUpstreamTimeout)
		return
	}
	p.answer(upstreamFailure(p.call.cluster, p.call.ep, err))
}

// refuse answers a request that is malformed. It is called with the lock held.
func (p *pair) refuse(err error) {
	p.answer(&failure{status: statusOf(err), flag: telemetry.FlagDownstreamProtocol, body: err.Error()})
}

// answer answers in the endpoint's stead. It is called with the lock held.
func (p *pair) answer(f *failure) {
	if p.done {
		return
	}
	p.responded = true
	c := &p.call
	c.outcome.Flag = f.flag
	fields, body := localAnswer(p.srv.h, c, f)
	if c.headOnly {
		body = ""
	}
	p.down.sendHeaders(fields, body == "")
	if body != "" {
		p.down.send([]byte(body), true)
		p.sent.Add(int64(len(body)))
	}
	p.finish()
}

// localAnswer builds the head and the body of an answer of the proxy itself.
func localAnswer(h *Handler, c *call, f *failure) (fields []hpack.HeaderField, body string) {
	status := f.status
	kind := "text/plain"
	if c.grpc {
		c.outcome.GRPC = grpcStatus(status)
		status, kind = 200, "application/grpc"
	} else {
		body = f.body
	}
	c.outcome.Code = status
	add := func(name, value string) {
		if value != "" {
			fields = append(fields, hpack.HeaderField{Name: name, Value: value})
		}
	}
	add(":status", strconv.Itoa(status))
	add("content-type", kind)
	add("server", h.hcm.ServerName)
	add("date", time.Now().UTC().Format(http.TimeFormat))
	add("location", f.location)
	if c.grpc {
		add("grpc-status", strconv.Itoa(c.outcome.GRPC))
		add("grpc-message", grpcMessage(f.body))
	} else if status != 204 && status != 304 {
		fields = append(fields, hpack.HeaderField{Name: "content-length", Value: strconv.Itoa(len(body))})
	} else {
		body = ""
	}
	return fields, body
}

// finish counts the request. It is called with the lock held, once.
func (p *pair) finish() {
	p.done = true
	p.replay = nil
	if p.timer != nil {
		p.timer.Stop()
	}
	c := &p.call
	if p.up != nil {
		c.ep.End()
	}
	c.outcome.Duration = time.Since(c.start)
	c.outcome.Received, c.outcome.Sent = p.received.Load(), p.sent.Load()
	p.srv.counters(c).Record(&c.outcome)
	if e := c.entry; e != nil {
		c.fill(e)
		p.srv.h.log.Write(e)
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

// responseStatus splits the status off a response head and checks that no field is out of place.
func responseStatus(fields []hpack.HeaderField) (status int, rest []hpack.HeaderField, err error) {
	if len(fields) == 0 || fields[0].Name != ":status" || len(fields[0].Value) != 3 {
		return 0, nil, errors.New("no status")
	}
	status, err = strconv.Atoi(fields[0].Value)
	if err != nil || status < 100 {
		return 0, nil, errors.New("bad status")
	}
	for _, f := range fields[1:] {
		switch f.Name {
		case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
			return 0, nil, errors.New("a field of HTTP/1")
		}
	}
	return status, fields[1:], nil
}

// responseFields makes the head for the caller out of that of the endpoint.
func responseFields(h *Handler, rt *route, status int, rest []hpack.HeaderField) []hpack.HeaderField {
	out := make([]hpack.HeaderField, 0, len(rest)+2)
	out = append(out, hpack.HeaderField{Name: ":status", Value: strconv.Itoa(status)})
	out = append(out, rest...)
	if name := h.hcm.ServerName; name != "" {
		if _, has := lookupField(rest, "server"); !has || !h.hcm.ServerPassThrough {
			out = append(dropFields(out, "server"), hpack.HeaderField{Name: "server", Value: name})
		}
	}
	if len(rt.response)+len(rt.dropResponse) > 0 {
		out = editFields(out, rt.dropResponse, rt.response)
	}
	return out
}
