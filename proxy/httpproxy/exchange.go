package httpproxy

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/telemetry"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

// stallCheck is after how long without an answer the proxy begins to watch whether the caller is still there.
const stallCheck = time.Second

// forwardTo sends the request to an endpoint and the response back. A request is sent a second time only when its
// body is still at hand and either nothing of a response came and the method is idempotent (RFC 9110 section
// 9.2.2), or the route's retry policy says so.
func (s *session) forwardTo(q *target) {
	c := &s.call
	policy := c.route.retries
	var tried []*upstream.Endpoint
	var cause error
	fresh, encoded := false, false
	for try := 1; ; try++ {
		conn, err := s.connect(&tried, fresh)
		if err != nil {
			s.fail(moreTelling(cause, err))
			return
		}
		if !encoded {
			s.encodeRequest(q)
			c.idempotent = isIdempotent(q.method)
			c.replayable = s.takeSmallBody()
			encoded = true
		}

		c.lastTry = try >= policy.limit()
		err = s.attempt(conn, tried)
		c.ep.End()
		if err == nil {
			return
		}

		first := conn.in.w == 0 // not a byte of a response came
		_ = conn.Close()
		if errors.Is(err, errNotQuiet) && conn.reused {
			try-- // that was a look at the pool, which ends when the pool is empty
			continue
		}

		// What was uploaded so far is either called back for the next try, or the upload ends here.
		c.note(err, first)
		again := !c.lastTry && s.worthAnother(err, first)
		if again && s.up1.started {
			again = s.recall()
		}
		if !again {
			s.stopUpload()
		}
		if s.watch.stop(s) || s.up1.sourceErr != nil {
			s.abandon()
			return
		}
		if !again {
			s.fail(err)
			return
		}

		// A stale or refused connection says nothing about its endpoint.
		if !conn.reused && !conn.refused() {
			tried = append(tried, c.ep)
		}
		fresh, cause = true, err
	}
}

// moreTelling returns what to say of a request that no endpoint is left for: why the last one did not answer, if one
// was reached.
func moreTelling(cause, err error) error {
	var none *upstream.PickError
	if cause != nil && errors.As(err, &none) {
		return cause
	}
	return err
}

// errAnswer is an answer that the route's retry policy does not take.
var errAnswer = errors.New("the answer is one to try again")

// errNotQuiet is a connection that was not written to, because the endpoint had spoken or hung up.
var errNotQuiet = errors.New("the endpoint sent something, or hung up, before it was asked")

// worthAnother reports whether a try that failed with err is to be followed by another. first says that not a byte
// of a response came.
func (s *session) worthAnother(err error, first bool) bool {
	c := &s.call
	if s.up1.started && !s.up1.to.complete() {
		return false
	}
	var syntax *parseError
	switch {
	case neverSent(err):
		return true
	case errors.Is(err, errAnswer):
		time.Sleep(retryWait())
		return true
	case errors.As(err, &syntax):
		return false
	case errors.Is(err, errTimeout):
		return c.route.retries.hungUp() && c.route.retries.tryTimeout() > 0 &&
			(c.deadline.IsZero() || time.Now().Before(c.deadline))
	}
	return first && c.idempotent || c.route.retries.hungUp()
}

// unwanted reports whether another endpoint is to answer instead, and there is one.
func (s *session) unwanted(h *head, tried []*upstream.Endpoint) bool {
	c := &s.call
	if c.lastTry || s.up1.started && !s.up1.to.complete() {
		return false
	}
	grpc := telemetry.NoGRPCStatus
	if v, has := h.lookup("grpc-status"); has {
		grpc = parseGRPCStatus(v)
	}
	policy := c.route.retries
	if !policy.answered(h.status, grpc) && !c.handedBack(view(h.get(fieldFailed)), policy) {
		return false
	}
	_, err := c.cluster.Pick(upstream.Hint{OriginalDst: s.info.Local, Tried: append(tried[:len(tried):len(tried)], c.ep)})
	return err == nil
}

func isIdempotent(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE":
		return true
	}
	return false
}

// connect picks an endpoint and takes or opens a connection to it; endpoints that cannot be reached are passed
// over. On success c.ep has begun a request.
func (s *session) connect(tried *[]*upstream.Endpoint, fresh bool) (*h1conn, error) {
	c := &s.call
	var last error
	for len(*tried) < c.route.retries.limit() {
		ep, err := pick(c.cluster, upstream.Hint{OriginalDst: s.info.Local, Tried: *tried})
		if err != nil {
			if last == nil {
				last = err
			}
			break
		}
		c.ep, c.pool = ep, s.h.server.pool(ep)
		ep.Begin()
		if !fresh && !c.h2 {
			if conn := c.pool.take(); conn != nil {
				return conn, nil
			}
		}
		conn, err := s.dial()
		if err == nil {
			return conn, nil
		}
		ep.End()
		*tried = append(*tried, ep)
		last = err
	}
	return nil, last
}

func (s *session) dial() (*h1conn, error) {
	c := &s.call
	ctx := context.Background()
	if !c.deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, c.deadline)
		defer cancel()
	}
	if !c.h2 {
		return c.pool.dial(ctx)
	}
	conn, err := c.pool.h2.get(ctx)
	if err != nil {
		return nil, err
	}
	return newH1conn(bridgeUp(conn), c.pool), nil
}

// pick chooses an endpoint, and waits for the first endpoints of a cluster that has just come.
func pick(cluster *upstream.Cluster, hint upstream.Hint) (*upstream.Endpoint, error) {
	ep, err := cluster.Pick(hint)
	if err == nil {
		return ep, nil
	}
	select {
	case <-cluster.Ready():
		return nil, err
	default:
	}
	if !cluster.WaitReady(context.Background()) {
		return nil, err
	}
	return cluster.Pick(hint)
}

// takeSmallBody appends a body that lies in the read buffer as a whole to the encoded head, so that both go out
// in one write and can go out again. It reports false for a body that is still on its way.
func (s *session) takeSmallBody() bool {
	b := s.req.framing
	switch {
	case b.kind == bodyNone:
		return true
	case b.kind == bodyLength && b.length <= int64(len(s.in.buffered())):
		n := int(b.length)
		s.scratch = append(s.scratch, s.in.buffered()[:n]...)
		s.in.discard(n)
		s.call.outcome.Received = b.length
		return true
	}
	return false
}

// attempt sends the request on conn and passes the response on. An error means that nothing of a final response
// has come; the caller closes conn.
func (s *session) attempt(conn *h1conn, tried []*upstream.Endpoint) error {
	conn.in.stalled = s.stalled
	s.watch.conn = conn
	s.call.tryEnd = s.call.deadline
	if limit := s.call.route.retries.tryTimeout(); limit > 0 {
		if end := time.Now().Add(limit); s.call.tryEnd.IsZero() || end.Before(s.call.tryEnd) {
			s.call.tryEnd = end
		}
	}
	s.arm(conn, s.call.start)
	if !conn.quiet() {
		if !conn.reused {
			s.call.ep.Report(upstream.OutcomeReset)
		}
		return errNotQuiet
	}
	// The head goes out here and not with the body, so that nothing is read as a response before it.
	if n, err := conn.Write(s.scratch); err != nil && n == 0 {
		return errNotSent
	} else if err != nil && conn.reused {
		return err
	}
	if !s.call.replayable {
		s.startUpload(conn)
	}
	for {
		raw, err := conn.in.readHead(nil)
		if err != nil && conn.refused() {
			return errNotSent
		}
		if err != nil {
			if !conn.reused {
				s.call.ep.Report(upstream.OutcomeReset)
			}
			return s.readError(err)
		}
		if err := conn.resp.parseResponse(raw, s.call.headOnly); err != nil {
			return err
		}
		conn.in.discard(len(raw))
		switch {
		case conn.resp.status == 101:
			if want := s.call.upgrade; want == "" || !equalLower(conn.resp.get(fieldUpgrade), want) {
				return badRequest("it switches protocols unasked")
			}
			s.tunnel(conn)
			return nil
		case conn.resp.status >= 200 && s.unwanted(&conn.resp, tried):
			s.call.ep.Report(outcomeOf(conn.resp.status))
			return errAnswer
		case conn.resp.status >= 200:
			return s.respond(conn)
		}
		s.interim(&conn.resp)
	}
}

func (s *session) readError(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errTimeout
	case errors.Is(err, errFull):
		return badRequest("its head is larger than %d bytes", maxHead)
	case errors.Is(err, io.EOF):
		return errors.New("end of stream")
	}
	return err
}

// arm sets the read deadline of conn so that onStall is called now and then, and no later than the deadline of
// the try; one that is in force and good enough stays.
func (s *session) arm(conn *h1conn, now time.Time) {
	at := now.Add(2 * stallCheck)
	if d := s.call.tryEnd; !d.IsZero() && d.Before(at) {
		at = d
	} else if conn.wake.After(now.Add(stallCheck)) && conn.wake.Before(at) {
		return
	}
	conn.wake = at
	_ = conn.SetReadDeadline(at)
}

// onStall is called when nothing came from the endpoint for a while; it reports whether to go on waiting.
func (s *session) onStall() bool {
	c := &s.call
	now := time.Now()
	if !c.tryEnd.IsZero() && !now.Before(c.tryEnd) {
		return false
	}
	if s.watch.idleTooLong(s, now) {
		return false
	}
	if !s.up1.running() {
		s.watch.start(s)
	}
	s.watch.conn.wake = time.Time{}
	s.arm(s.watch.conn, now)
	return true
}

// fail answers a request that got no response.
func (s *session) fail(err error) {
	f := upstreamFailure(s.call.cluster, s.call.ep, err)
	s.call.failed = s.call.sign(err, s.info)
	if s.up1.started {
		s.call.keep = false
		s.call.unread = true
		s.call.outcome.Flag = f.flag
		s.reply(f.status, f.body)
		return
	}
	if s.call.outcome.Received > 0 { // the body was taken from the buffer
		s.req.framing = framing{}
	}
	s.replyWith(f)
}

// abandon ends a request whose caller went away, or broke the protocol within its body.
func (s *session) abandon() {
	c := &s.call
	c.keep = false
	var syntax *parseError
	if errors.As(s.up1.sourceErr, &syntax) {
		c.unread = true
		c.outcome.Flag = telemetry.FlagDownstreamProtocol
		s.reply(syntax.status, syntax.reason)
		return
	}
	c.outcome.Flag = telemetry.FlagDownstreamClosed
}

// respond passes a final response on. The connection to the endpoint is pooled again or closed. An error means that
// the body is malformed and nothing of the response went out.
func (s *session) respond(conn *h1conn) error {
	c := &s.call
	s.up1.answered.Store(true)
	resp := &conn.resp
	c.outcome.Code = resp.status
	c.ep.Report(outcomeOf(resp.status))
	if s.draining.Load() || s.up1.started && !s.up1.sent.Load() {
		c.keep = false
	}
	if c.entry != nil {
		c.entry.ResponseHeaders = values(s.h.log.ResponseHeaders(), resp.lookup)
	}
	s.down.reset(&conn.in, &s.out, resp.framing)
	s.down.scan.padded = true
	s.encodeResponse(resp)
	before := s.out.writes
	err := s.down.run()
	if s.out.writes == before && malformed(err) {
		s.out.pending = s.out.pending[:0]
		return err
	}
	c.outcome.Sent = s.down.moved
	c.outcome.GRPC = s.trailedStatus()
	reusable := err == nil && !resp.close && !c.h2
	if err != nil {
		c.keep = false
		c.outcome.Flag = telemetry.FlagDownstreamClosed
		var src *sourceError
		if errors.As(err, &src) && !s.watch.gone.Load() {
			c.outcome.Flag = telemetry.FlagUpstreamTerminated
			if errors.Is(err, os.ErrDeadlineExceeded) {
				c.outcome.Flag = telemetry.FlagUpstreamTimeout
			}
		}
		_ = conn.Close()
	}
	if s.up1.started && !s.up1.settled() {
		reusable = false
		c.keep = false
		c.unread = true
		_ = conn.Close()
		s.stopUpload()
	} else if s.up1.err != nil {
		reusable = false
		c.keep = false
	}
	if s.watch.stop(s) {
		c.keep = false
	}
	conn.in.stalled = nil
	if !reusable {
		_ = conn.Close()
		return nil
	}
	c.pool.put(conn, c.start)
	return nil
}

// malformed reports whether err is what a sender did to the syntax.
func malformed(err error) bool {
	var syntax *parseError
	return errors.As(err, &syntax)
}

func outcomeOf(status int) upstream.Outcome {
	switch {
	case status == 502 || status == 503 || status == 504:
		return upstream.OutcomeGatewayError
	case status >= 500:
		return upstream.OutcomeServerError
	}
	return upstream.OutcomeOK
}

// trailedStatus returns the grpc-status of an HTTP/1 response with trailers, as gRPC-Web bridges send it.
func (s *session) trailedStatus() int {
	if !s.call.grpc || s.down.scan.state != chunkDone {
		return telemetry.NoGRPCStatus
	}
	v, _ := s.down.trailers.lookup("grpc-status")
	return parseGRPCStatus(v)
}

// allowedUpgrade returns the protocol of the configuration that a request asks to switch to, or "".
func allowedUpgrade(hcm *config.HCM, kind []byte) string {
	for _, u := range hcm.Upgrades {
		if equalLower(kind, u) {
			return u
		}
	}
	return ""
}
