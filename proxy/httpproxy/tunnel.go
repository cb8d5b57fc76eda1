package httpproxy

import (
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/duplex"
	"github.com/isthmus-mesh/isthmus/proxy/exchange"
	"github.com/isthmus-mesh/isthmus/proxy/http1"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

// tunnelIdle ends an upgraded connection on which nothing moved in either direction for so long.
const tunnelIdle = time.Hour

// tunnel passes the 101 response on and then copies both ways until both sides are done. A drain does not cut it:
// the caller of ServeConn closes the connection when its patience is over.
func (s *session) tunnel(conn *h1conn) {
	c := &s.call
	s.keep = false
	c.Outcome.Code = 101
	c.ep.Report(upstream.OutcomeOK)
	if s.up1.started && !s.up1.settled() {
		s.stopUpload()
	}
	s.watch.stop(s)
	conn.in.Stalled = nil
	conn.socket.endure() // what goes through it waits for applications

	out := appendStatus(s.out.Pending, &conn.resp)
	out = conn.resp.AppendFields(out)
	out = append(out, "connection: Upgrade\r\n"...)
	out = appendField(out, "upgrade", string(conn.resp.Get(http1.FieldUpgrade)))
	s.out.Pending = append(out, "\r\n"...)
	if s.out.Flush() != nil {
		_ = conn.Close()
		return
	}

	s.setDeadline(time.Time{})
	_ = conn.SetReadDeadline(time.Time{})
	defer conn.Close()
	s.unread = false

	// What was read ahead on either side goes first.
	ahead := s.in.Buffered()
	if len(ahead) > 0 {
		if _, err := conn.Conn.Write(ahead); err != nil {
			c.Broke(exchange.Ended)
			return
		}
		s.in.Discard(len(ahead))
	}
	back := conn.in.Buffered()
	if len(back) > 0 {
		if _, err := s.conn.Write(back); err != nil {
			c.CallerGone()
			return
		}
		conn.in.Discard(len(back))
	}

	var received, sent atomic.Int64
	broken := duplex.Copy(s.conn, conn.Conn, duplex.Options{Idle: tunnelIdle, Moved: func(r, n int64) {
		received.Add(r)
		sent.Add(n)
	}})
	switch broken {
	case duplex.Down:
		c.CallerGone()
	case duplex.Up:
		c.Broke(exchange.Ended)
	}
	c.Outcome.Received = received.Load() + int64(len(ahead))
	c.Outcome.Sent = sent.Load() + int64(len(back))
}
