package httpproxy

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/exchange"
	"github.com/isthmus-mesh/isthmus/proxy/http1"
	"github.com/isthmus-mesh/isthmus/proxy/outcome"
	"github.com/isthmus-mesh/isthmus/proxy/routes"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

// stallCheck is after how long without an answer the proxy begins to watch whether the caller is still there.
const stallCheck = time.Second

// forwardTo sends the request to an endpoint and the answer back, as the exchange says; v is what it said last.
func (s *session) forwardTo(q *routes.Target, v exchange.Verdict) {
	var conn *h1conn
	for encoded := false; ; {
		switch v.Do {
		case exchange.Pick:
			pause(v.Wait)
			conn, v = s.connect(v)
		case exchange.Send:
			if !encoded {
				s.encodeRequest(q)
				s.replayable = s.takeSmallBody()
				encoded = true
				if len(s.call.Route.Mirrors) > 0 {
					s.mirrorRequest()
				}
			}
			v = s.try(conn)
		case exchange.Reply:
			s.fail(v.Answer)
			return
		default:
			return
		}
	}
}

// connect picks an endpoint and takes or opens a connection to it, as v asks for. With Send as the verdict, s.call.ep
// has begun a request.
func (s *session) connect(v exchange.Verdict) (*h1conn, exchange.Verdict) {
	c := &s.call
	ep, err := c.pick(s.info)
	if err != nil {
		return nil, c.NoEndpoint(err)
	}
	fresh := v.Fresh || v.Anew && ep == c.ep
	c.ep, c.pool = ep, s.h.server.pool(ep)
	if !ep.Begin() {
		return nil, c.Overflow(c.cluster.Overflow())
	}

	now := c.onward
	if c.Tries() > 0 {
		now = time.Now()
	}
	if !fresh && !s.h2 {
		if conn := c.pool.take(now); conn != nil {
			return conn, c.Connected(now)
		}
	}
	conn, err := s.open(fresh)
	if err == nil {
		return conn, c.Connected(now)
	}

	c.ep.End()
	var full *upstream.OverflowError
	if errors.As(err, &full) {
		return nil, c.Overflow(err)
	}
	f := &exchange.Failure{Cause: exchange.Unreachable, Err: err, Endpoint: c.ep.Addr().String(), BodyAtHand: true}
	if errors.Is(err, errLate) {
		f.Cause = exchange.Late
	}
	return nil, c.heed(c.Failed(f, time.Now()))
}

// errLate ends the wait for a connection because the time for the request is over.
var errLate = errors.New("the time for the request is over, and no connection has become free or come about")

// open waits for a connection to the endpoint that was picked, or to another when that one is late; then the request has
// begun there.
func (s *session) open(fresh bool) (*h1conn, error) {
	c := &s.call
	ctx := context.Background()
	if !c.Deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, c.Deadline, errLate)
		defer cancel()
	}

	o := opening{server: s.h.server, call: c, info: s.info, ep: c.ep, h2: s.h2, fresh: fresh}
	ep, conn, err := o.run(ctx)
	if ep != c.ep {
		c.move(ep, s.h.server.pool(ep))
	}
	switch {
	case err != nil:
		return nil, err
	case s.h2:
		return newH1conn(bridgeUp(conn.h2, &s.h.server.bulk), c.pool), nil
	}
	return conn.h1, nil
}

// try sends the request on conn and passes the answer on. The verdict is Pass when that is done, Break when the
// caller went away meanwhile, else what comes next.
func (s *session) try(conn *h1conn) exchange.Verdict {
	c := &s.call
	v, err := s.attempt(conn)
	c.ep.End()
	if err == nil && v.Do == exchange.Pass {
		return v
	}

	// Whatever happened, the connection is of no more use.
	first := conn.in.NothingCame() // not a byte of an answer came
	_ = conn.Close()
	if errors.Is(err, errNotQuiet) && conn.reused {
		return c.Stale()
	}
	if err != nil {
		f := exchange.Failure{
			Cause: causeOf(err, first), Err: err, Endpoint: c.ep.Addr().String(),
			Reused:     conn.reused || conn.refused(),
			BodyAtHand: s.bodyAtHand(),
		}
		if v = c.Failed(&f, time.Now()); f.Cause == exchange.Lost {
			v.Blame = false
			c.lost()
		}
	}
	v = c.heed(v)

	// What was uploaded so far is either called back for the next try, or the upload ends here.
	if v.Do == exchange.Pick && s.up1.started && !s.recall() {
		v = c.BodyLost()
	}
	if v.Do != exchange.Pick {
		s.stopUpload()
	}
	if s.watch.stop(s) || s.up1.sourceErr != nil {
		s.abandon()
		return exchange.Verdict{Do: exchange.Break}
	}
	return v
}

// bodyAtHand reports whether the request can be sent again: it is in s.scratch, or what was uploaded of it is kept.
func (s *session) bodyAtHand() bool { return !s.up1.started || s.up1.to.complete() }

// takeSmallBody appends a body that lies in the read buffer as a whole to the encoded head, so that both go out
// in one write and can go out again. It reports false for a body that is still on its way.
func (s *session) takeSmallBody() bool {
	b := s.req.Framing
	switch {
	case b.Kind == http1.BodyNone:
		return true
	case b.Kind == http1.BodyLength && b.Length <= int64(len(s.in.Buffered())):
		n := int(b.Length)
		s.scratch = append(s.scratch, s.in.Buffered()[:n]...)
		s.in.Discard(n)
		s.call.Outcome.Received = b.Length
		return true
	}
	return false
}

// attempt sends the request on conn and passes the answer on. An error means that nothing of a final answer has come;
// the verdict is Pass, or what comes next when the answer is not to be passed on. The caller closes conn.
func (s *session) attempt(conn *h1conn) (exchange.Verdict, error) {
	conn.in.Stalled = s.stalled
	conn.before = conn.written.Load()
	s.watch.conn = conn
	s.arm(conn, s.call.onward)

	if err := s.sendHead(conn); err != nil {
		return exchange.Verdict{}, err
	}
	if !s.replayable {
		s.startUpload(conn)
	}

	for {
		if err := s.readAnswerHead(conn); err != nil {
			return exchange.Verdict{}, err
		}
		switch resp := &conn.resp; {
		case resp.Status == 101:
			if want := s.upgrade; want == "" || !http1.EqualLower(resp.Get(http1.FieldUpgrade), want) {
				return exchange.Verdict{}, unfit("it switches protocols unasked")
			}
			s.tunnel(conn)
			return exchange.Verdict{Do: exchange.Pass}, nil
		case resp.Status >= 200:
			v := s.judge(resp)
			if v.Do == exchange.Pass {
				return v, s.respond(conn)
			}
			return v, nil
		default:
			s.interim(resp)
		}
	}
}

// sendHead writes the head, and the body when that is small. They go out here and not with the rest of the body, so
// that nothing is read as an answer before them.
func (s *session) sendHead(conn *h1conn) error {
	var n int
	var err error
	if s.replayable {
		n, err = conn.ask(s.scratch)
	} else { // the rest is to be written while the answer is waited for
		n, err = conn.lookAndWrite(s.scratch)
	}

	switch {
	case err == nil, errors.Is(err, errNotQuiet):
		return err
	case n == 0:
		return errNotSent
	case conn.reused:
		return err
	}
	return nil // an endpoint that refuses in the middle may have answered
}

// readAnswerHead reads the next head that the endpoint sends into conn.resp.
func (s *session) readAnswerHead(conn *h1conn) error {
	raw, err := conn.in.ReadHead(nil)
	switch {
	case err != nil && (conn.refused() || conn.untouched(err)):
		return errNotSent
	case err != nil:
		return s.readError(err)
	}
	if err := conn.resp.ParseResponse(raw, s.call.headOnly); err != nil {
		return err
	}
	conn.in.Discard(len(raw))
	return nil
}

// judge asks what becomes of a final answer.
func (s *session) judge(resp *http1.Head) exchange.Verdict {
	c := &s.call
	grpc := outcome.NoGRPCStatus
	if c.GRPC {
		if v, has := resp.Lookup("grpc-status"); has {
			grpc = exchange.ParseGRPCStatus(v)
		}
	}
	h := c.answerHead(resp.Status, grpc, http1.View(resp.Get(http1.FieldFailed)), s.bodyAtHand())
	c.ep.Report(outcomeOf(&h))
	v := c.Answered(&h)
	if v.Do != exchange.Another {
		return v
	}
	return c.another(v, &h, s.info)
}

func (s *session) readError(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && s.watch.idle:
		return errStill
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errTimeout
	case errors.Is(err, http1.ErrFull):
		return unfit("its head is larger than %d bytes", http1.MaxHead)
	case errors.Is(err, io.EOF):
		return errors.New("end of stream")
	}
	return err
}

// arm sets the read deadline of conn so that onStall is called now and then, and no later than the deadline of
// the try; one that is in force and good enough stays.
func (s *session) arm(conn *h1conn, now time.Time) {
	end := s.call.TryEnd
	soon := !end.IsZero() && end.Sub(now) < 2*stallCheck
	if left := conn.wake.Sub(now); !soon && stallCheck < left && left < 2*stallCheck {
		return
	}
	at := end
	if !soon {
		at = now.Add(2 * stallCheck)
	}
	conn.wake = at
	_ = conn.SetReadDeadline(at)
}

// onStall is called when nothing came from the endpoint for a while; it reports whether to go on waiting.
func (s *session) onStall() bool {
	c := &s.call
	now := time.Now()
	if !c.TryEnd.IsZero() && !now.Before(c.TryEnd) {
		return false
	}
	if s.watch.idleTooLong(s, now) {
		s.watch.idle = true
		return false
	}
	if s.mirror != nil && s.mirror.ended() {
		return false
	}
	if !s.up1.running() {
		s.watch.start(s)
	}
	s.watch.conn.wake = time.Time{}
	s.arm(s.watch.conn, now)
	return true
}

// fail answers in the endpoint's stead.
func (s *session) fail(a *exchange.Answer) {
	if s.up1.started {
		s.keep = false
		s.unread = true
		s.reply(a)
		return
	}
	if s.call.Outcome.Received > 0 { // the body was taken from the buffer
		s.req.Framing = http1.Framing{}
	}
	s.replyRest(a)
}

// abandon ends a request whose caller went away, or broke the protocol within its body.
func (s *session) abandon() {
	s.keep = false
	if status, reason, is := breach(s.up1.sourceErr); is {
		s.unread = true
		flag := outcome.DownstreamProtocol
		if s.up1.silent {
			flag = outcome.StreamIdle
		}
		s.reply(s.call.Refuse(status, flag, reason).Answer)
		return
	}
	s.call.CallerGone()
}

// respond passes a final answer on. The connection to the endpoint is pooled again or closed. An error means that the
// body is malformed and nothing of the answer went out.
func (s *session) respond(conn *h1conn) error {
	c := &s.call
	resp := &conn.resp
	if s.up1.started {
		s.up1.answered.Store(true)
	}
	if s.draining.Load() || s.up1.started && !s.up1.sent.Load() {
		s.keep = false
	}
	if c.entry != nil {
		c.entry.ResponseHeaders = values(s.h.log.ResponseHeaders(), resp.Lookup)
	}

	s.down.Reset(&conn.in, &s.out, resp.Framing)
	s.down.AcceptPadding()
	s.encodeResponse(resp)
	before := s.out.Writes()
	err := s.down.Run()
	if s.out.Writes() == before && isBreach(err) {
		s.out.Pending = s.out.Pending[:0]
		return err
	}
	c.Outcome.Sent = s.down.Moved()
	if status, ended := s.trailedStatus(); ended {
		c.Outcome.GRPC = status
	}

	reusable := err == nil && !resp.Close && !s.h2
	if err != nil {
		s.keep = false
		s.noteBreak(err)
		_ = conn.Close()
	}
	switch {
	case s.up1.started && !s.up1.settled():
		reusable = false
		s.keep = false
		s.unread = true
		_ = conn.Close()
		s.stopUpload()
	case s.up1.err != nil:
		reusable = false
		s.keep = false
	}
	if s.watch.stop(s) {
		s.keep = false
	}

	conn.in.Stalled = nil
	if !reusable {
		_ = conn.Close()
		return nil
	}
	c.pool.put(conn, c.onward)
	return nil
}

// noteBreak notes why an answer broke off within its body.
func (s *session) noteBreak(err error) {
	var src *http1.SourceError
	switch {
	case !errors.As(err, &src) || s.watch.gone.Load():
		s.call.CallerGone()
	case errors.Is(err, os.ErrDeadlineExceeded) && s.watch.idle:
		s.call.Broke(exchange.Idle)
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.call.Broke(exchange.Silent)
	default:
		s.call.Broke(exchange.Ended)
	}
}

// trailedStatus returns the grpc-status of an HTTP/1 answer with trailers, as gRPC-Web bridges send it, and whether
// its trailers came.
func (s *session) trailedStatus() (status int, ended bool) {
	if !s.call.GRPC || !s.down.Trailed() {
		return 0, false
	}
	v, has := s.down.Trailers().Lookup("grpc-status")
	return exchange.ParseGRPCStatus(v), has
}

// allowedUpgrade returns the protocol of the configuration that a request asks to switch to, or "".
func allowedUpgrade(hcm *config.HCM, kind []byte) string {
	for _, u := range hcm.Upgrades {
		if http1.EqualLower(kind, u) {
			return u
		}
	}
	return ""
}
