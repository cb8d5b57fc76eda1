package httpproxy

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/isthmus-mesh/isthmus/proxy/telemetry"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

// answers receives what one upstream stream of a pair brings; it is stale once the pair has another.
type answers struct {
	p *pair
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
	grpc := telemetry.NoGRPCStatus
	if p.call.grpc && end {
		v, _ := lookupField(rest, "grpc-status")
		grpc = parseGRPCStatus(v)
	}
	p.call.ep.Report(outcomeOf(status))
	failed, _ := lookupField(rest, "x-isthmus-failed")
	if p.unwanted(status, grpc, failed) {
		p.up.reset(http2.ErrCodeCancel)
		p.another()
		return
	}
	p.responded, p.replay = true, nil
	p.call.outcome.Code, p.call.outcome.GRPC = status, grpc
	if e := p.call.entry; e != nil {
		e.ResponseHeaders = values(p.srv.h.log.ResponseHeaders(), func(n string) (string, bool) { return lookupField(rest, n) })
	}
	p.down.sendHeaders(responseFields(p.srv.h, p.call.route, status, rest), end)
	if end {
		p.ended()
	}
}

// unwanted reports whether the retry policy wants another endpoint to answer instead, and there is one. It is
// called with the lock held.
func (p *pair) unwanted(status, grpc int, failed string) bool {
	policy := p.call.route.retries
	if p.lostBody || p.tries >= policy.limit() || !policy.answered(status, grpc) && !p.call.handedBack(failed, policy) {
		return false
	}
	hint := p.hint()
	hint.Tried = append(hint.Tried[:len(hint.Tried):len(hint.Tried)], p.call.ep)
	_, err := p.call.cluster.Pick(hint)
	return err == nil
}

// another gives the current upstream stream up and sends the request to another endpoint. It is called with the
// lock held.
func (p *pair) another() {
	p.call.ep.End()
	p.tried = append(p.tried, p.call.ep)
	p.up, p.answers = nil, nil
	time.AfterFunc(retryWait(), func() { p.connect(nil) })
}

// tryTimeout is called when the time for one try is over.
func (a *answers) tryTimeout() {
	p := a.p
	p.mu.Lock()
	if p.answers != a || p.done || p.responded {
		p.mu.Unlock()
		return
	}
	p.up.reset(http2.ErrCodeCancel)
	p.call.ep.Report(upstream.OutcomeReset)
	p.call.note(errTimeout, true)
	policy := p.call.route.retries
	if !p.lostBody && p.tries < policy.limit() && policy.hungUp() {
		p.another()
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	p.fail(errTimeout)
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

// isBreach reports whether err says what an endpoint did against the protocol.
func isBreach(err error) bool {
	var syntax *parseError
	return errors.As(err, &syntax)
}

func (a *answers) reset(code http2.ErrCode, refused bool) {
	p := a.p
	p.mu.Lock()
	if p.answers != a || p.done {
		p.mu.Unlock()
		return
	}
	cause := p.up.cause(code)
	if p.responded {
		flag := telemetry.FlagUpstreamReset
		switch {
		case code == http2.ErrCodeConnect:
			flag, code = telemetry.FlagUpstreamTerminated, http2.ErrCodeInternal
		case isBreach(cause): // the caller did nothing wrong
			flag, code = telemetry.FlagUpstreamProtocol, http2.ErrCodeInternal
		}
		p.broken(code, flag)
		p.mu.Unlock()
		return
	}
	policy := p.call.route.retries
	again := !p.lostBody && p.tries < policy.limit() &&
		(refused || isIdempotent(p.req.method) && code == http2.ErrCodeConnect || policy.hungUp())
	if isBreach(cause) { // another try would bring the same
		again = false
	}
	p.call.ep.End()
	p.cause = cause
	if !refused {
		p.call.note(cause, true)
		p.call.ep.Report(upstream.OutcomeReset)
		p.tried = append(p.tried, p.call.ep)
	}
	p.up, p.answers = nil, nil
	if code == http2.ErrCodeCancel && !again { // as a deadline that struck there first; the caller knows its own better
		p.broken(code, telemetry.FlagUpstreamReset)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	if again {
		go p.connect(nil)
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
	err = moreTelling(p.cause, err)
	p.call.failed = p.call.sign(err, p.srv.info)
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

// finish counts the request. It is called with the lock held, once.
func (p *pair) finish() {
	p.done = true
	p.replay = nil
	p.down.credit(p.waiting)
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
	if _, has := lookupField(rest, "x-isthmus-failed"); has {
		out = dropFields(out, "x-isthmus-failed")
	}
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
	add("x-isthmus-failed", c.failed)
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
