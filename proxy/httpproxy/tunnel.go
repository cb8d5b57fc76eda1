package httpproxy

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

// tunnelIdle ends an upgraded connection on which nothing moved in either direction for so long.
const tunnelIdle = time.Hour

// tunnel passes the 101 response on and then copies both ways until both sides are done. A drain does not cut it:
// the caller of ServeConn closes the connection when its patience is over.
func (s *session) tunnel(conn *h1conn) {
	c := &s.call
	c.keep = false
	c.outcome.Code = 101
	c.ep.Report(upstream.OutcomeOK)
	if s.up1.started && !s.up1.settled() {
		s.stopUpload()
	}
	s.watch.stop(s)
	conn.in.stalled = nil
	out := appendStatus(s.out.pending, &conn.resp)
	out = conn.resp.appendFields(out)
	out = append(out, "connection: Upgrade\r\n"...)
	out = appendField(out, "upgrade", string(conn.resp.get(fieldUpgrade)))
	s.out.pending = append(out, "\r\n"...)
	if s.out.flush() != nil {
		_ = conn.Close()
		return
	}
	s.setDeadline(time.Time{})
	_ = conn.SetReadDeadline(time.Time{})

	var d duplex
	d.bulk = &s.h.server.bulk
	d.touch()
	done := make(chan int64, 1)
	go func() { done <- d.copy(conn.Conn, s.conn, &s.in) }()
	c.outcome.Sent = d.copy(s.conn, conn.Conn, &conn.in)
	c.outcome.Received = <-done
	_ = conn.Close()
	s.call.unread = false
}

// duplex is a pair of copies with a common idle timeout.
type duplex struct {
	bulk  *bulkPool
	moved atomic.Int64 // when something moved last, unix nanoseconds
	ended atomic.Bool  // one direction failed
}

func (d *duplex) touch() { d.moved.Store(time.Now().UnixNano()) }

// copy moves bytes from src, of which in holds some already, to dst until the end, and passes the end on.
func (d *duplex) copy(dst, src net.Conn, in *inbuf) (n int64) {
	buf := d.bulk.get()
	defer d.bulk.put(buf)
	for {
		_ = src.SetReadDeadline(time.Now().Add(tunnelIdle))
		k, err := in.Read(buf[:])
		if k > 0 {
			d.touch()
			if _, werr := dst.Write(buf[:k]); werr != nil {
				err = werr
			} else {
				n += int64(k)
			}
		}
		switch {
		case err == nil:
			continue
		case errors.Is(err, io.EOF):
			if half, ok := dst.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
				return n
			}
		case errors.Is(err, os.ErrDeadlineExceeded) && !d.ended.Load() &&
			time.Since(time.Unix(0, d.moved.Load())) < tunnelIdle:
			continue
		}
		d.ended.Store(true)
		_ = dst.Close()
		_ = src.Close()
		return n
	}
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
