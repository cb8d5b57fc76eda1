package httpproxy

import (
	"errors"
	"strconv"
	"time"

	nethttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/isthmus-mesh/isthmus/proxy/exchange"
	"github.com/isthmus-mesh/isthmus/proxy/outcome"
)

// answers receives what one upstream stream of a pair brings; it is stale once the pair has another.
type answers struct {
	p *pair
}

// Headers implements http2.Sink for what the endpoint sends.
func (a *answers) Headers(fields []hpack.HeaderField, end bool) {
	p := a.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.answers != a || p.done {
		return
	}
	if p.responded {
		p.trailLocked(fields, end)
		return
	}

	status, rest, err := responseStatus(fields)
	if err != nil || status < 200 && end || status == 101 {
		p.up.Reset(nethttp2.ErrCodeProtocol)
		p.tryFailedLocked(exchange.Malformed, unfit("its response has no valid status"), nethttp2.ErrCodeProtocol)
		return
	}
	if status < 200 {
		p.down.SendHeaders(fields, false)
		return
	}
	if h, pass := p.judgeLocked(status, rest, end); pass {
		p.passLocked(h, rest, end)
	}
}

// judgeLocked asks what becomes of a final answer, and reports whether it is to be passed on. Otherwise the request
// is on its way to another endpoint.
func (p *pair) judgeLocked(status int, rest []hpack.HeaderField, end bool) (h exchange.Head, pass bool) {
	grpc := outcome.NoGRPCStatus
	if p.call.GRPC && end {
		v, _ := lookupField(rest, "grpc-status")
		grpc = exchange.ParseGRPCStatus(v)
	}
	failed, _ := lookupField(rest, exchange.FailedField)
	h = p.call.answerHead(status, grpc, failed, !p.lostBody)
	p.call.ep.Report(outcomeOf(&h))
	v := p.call.Answered(&h)
	if v.Do != exchange.Another {
		return h, true
	}
	if v = p.call.another(v, &h, p.srv.info); v.Do != exchange.Pick {
		return h, true
	}

	if h.Failed != "" {
		p.conn.Retire() // it leads to that application alone, also where other ones stand behind the endpoint
	}
	p.abandonTryLocked()
	p.followLocked(p.call.heed(v), nethttp2.ErrCodeCancel)
	return h, false
}

// passLocked begins the answer to the caller.
func (p *pair) passLocked(h exchange.Head, rest []hpack.HeaderField, end bool) {
	p.responded, p.replay = true, nil
	if e := p.call.entry; e != nil {
		e.ResponseHeaders = values(p.srv.h.log.ResponseHeaders(), func(n string) (string, bool) { return lookupField(rest, n) })
	}
	out := &p.answer
	*out = make(fieldList, 0, len(rest)+2)
	*out = append(*out, hpack.HeaderField{Name: ":status", Value: strconv.Itoa(h.Status)})
	*out = append(*out, rest...)
	exchange.EditResponse(out, &p.call.Exchange, p.srv.h.hcm)
	p.down.SendHeaders(*out, end)
	*out = nil
	if end {
		p.endedLocked()
	}
}

// tryTimeout is called when the time for one try is over.
func (a *answers) tryTimeout() {
	p := a.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.answers != a || p.done || p.responded {
		return
	}
	p.up.Reset(nethttp2.ErrCodeCancel)
	p.tryFailedLocked(exchange.Silent, errTimeout, nethttp2.ErrCodeCancel)
}

// tryFailedLocked ends a try whose stream is over, and does what comes next.
func (p *pair) tryFailedLocked(c exchange.Cause, err error, code nethttp2.ErrCode) {
	p.call.ep.End()
	p.up, p.answers = nil, nil
	v := p.failedLocked(c, err)
	if c == exchange.Lost {
		v.Blame = false
		p.call.lost()
	}
	p.followLocked(p.call.heed(v), code)
}

// trailLocked passes trailers on.
func (p *pair) trailLocked(fields []hpack.HeaderField, end bool) {
	if !end {
		p.up.Reset(nethttp2.ErrCodeProtocol)
		p.call.Broke(exchange.Malformed)
		p.breakOffLocked(nethttp2.ErrCodeProtocol)
		return
	}
	if p.call.GRPC {
		v, _ := lookupField(fields, "grpc-status")
		p.call.Outcome.GRPC = exchange.ParseGRPCStatus(v)
	}
	p.down.SendTrailers(cleanTrailers(fields))
	p.endedLocked()
}

// Data implements http2.Sink.
func (a *answers) Data(b []byte, end bool) {
	p := a.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.answers != a || p.done {
		return
	}
	p.sent.Add(int64(len(b)))
	p.up.Credit(p.down.Send(b, end))
	if end {
		p.endedLocked()
	}
}

// endedLocked is called when the answer came to its end.
func (p *pair) endedLocked() {
	if !p.end {
		p.up.Reset(nethttp2.ErrCodeNo)
	}
	p.finishLocked()
}

// Reset implements http2.Sink: the endpoint gave up, or its connection is over.
func (a *answers) Reset(code nethttp2.ErrCode, refused bool) {
	p := a.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.answers != a || p.done {
		return
	}
	err := p.up.Cause(code)
	cause := resetCause(code, refused, err)
	if !p.responded {
		p.tryFailedLocked(cause, err, code)
		return
	}

	p.call.Broke(cause)
	if cause == exchange.Ended || cause == exchange.Lost || cause == exchange.Malformed { // the caller did nothing wrong
		code = nethttp2.ErrCodeInternal
	}
	p.breakOffLocked(code)
}

// resetCause says what the end of an upstream stream means.
func resetCause(code nethttp2.ErrCode, refused bool, err error) exchange.Cause {
	switch {
	case refused:
		return exchange.NotSent
	case isBreach(err):
		return exchange.Malformed
	case code == nethttp2.ErrCodeConnect && isLost(err):
		return exchange.Lost
	case code == nethttp2.ErrCodeConnect:
		return exchange.Ended
	case code == nethttp2.ErrCodeCancel:
		return exchange.Cancelled
	}
	return exchange.Reset
}

// breakOffLocked passes on that the answer broke off.
func (p *pair) breakOffLocked(code nethttp2.ErrCode) {
	p.down.Reset(code)
	p.finishLocked()
}

// refuseLocked answers a request that is malformed.
func (p *pair) refuseLocked(err error) {
	p.replyLocked(p.call.Refuse(statusOf(err), outcome.DownstreamProtocol, err.Error()).Answer)
}

// replyLocked answers in the endpoint's stead.
func (p *pair) replyLocked(a *exchange.Answer) {
	if p.done {
		return
	}
	p.responded = true
	local := p.call.Local(a, p.srv.h.hcm.ServerName, time.Now())
	body := local.Body
	if p.call.headOnly {
		body = ""
	}
	fields := make([]hpack.HeaderField, 0, len(local.Fields)+1)
	fields = append(fields, hpack.HeaderField{Name: ":status", Value: strconv.Itoa(local.Status)})
	for _, f := range local.Fields {
		fields = append(fields, hpack.HeaderField{Name: f.Name, Value: f.Value})
	}
	p.down.SendHeaders(fields, body == "")
	if body != "" {
		p.down.Send([]byte(body), true)
		p.sent.Add(int64(len(body)))
	}
	p.finishLocked()
}

// finishLocked counts the request. It is called once.
func (p *pair) finishLocked() {
	p.done = true
	p.replay = nil
	p.down.Credit(p.waiting)
	if p.timer != nil {
		p.timer.Stop()
	}
	p.endDelayLocked()
	for _, m := range p.mirrors {
		m.leave(p.end)
	}
	c := &p.call
	if p.up != nil {
		c.ep.End()
	}
	c.Outcome.Received, c.Outcome.Sent = p.received.Load(), p.sent.Load()
	c.finish(p.srv.h, p.srv.counters(c), time.Now())
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
