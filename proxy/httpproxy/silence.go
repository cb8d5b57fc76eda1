package httpproxy

import (
	"crypto/tls"
	"net"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/proxy/mtls"
)

// quiet reports whether the endpoint has neither hung up nor sent anything since its last response was read.
//
// HTTP/1 tells which response belongs to which request by order alone: what is there before a request was sent
// would be taken for its response, and each later caller of the connection would get the response of the one before
// (RFC 9112 section 6.3: such a connection must be closed). Therefore every request asks right before its first byte
// is written, also on a connection that was just opened. What is left is a response sent by the endpoint within the
// few hundred nanoseconds between this look and the write: HTTP/1 has no means to tell it from a quick answer. It
// leaves the true answer behind, by which the next look knows the connection.
//
// The look is one system call: 1.4 µs where a request costs 25 and the smallest call there is 0.65 (BenchmarkQuiet; an
// ioctl or a read cost the same, a pending read in a goroutine of its own more). It finds the connections that the
// endpoint closed, too. Where ask can put it in the place of another call it costs nothing.
func (c *h1conn) quiet() bool {
	return c.in.Empty() && c.socket.lasts(!c.in.FilledUp())
}

// question is a request that is written as a whole, while the runtime watches for what the endpoint says.
type question struct {
	asked   bool
	request []byte
	sent    int
	err     error
}

// ask sees that the endpoint is quiet, writes a request that is there as a whole, and returns when something has come
// back or the read deadline has passed: the read that follows tells which. It returns how much was written.
//
// A read that begins right after the write finds nothing, as a rule, and costs a system call before its goroutine is
// parked. Here the look stands in the place of that read. Both must be within one RawConn.Read: the runtime forgets,
// when such a call begins, that a socket became readable, and knows of everything from then on. So the look sees what
// came before, and the wait ends with what comes after.
func (c *h1conn) ask(request []byte) (int, error) {
	if c.socket.waits == nil {
		return c.lookAndWrite(request)
	}

	c.question = question{request: request}
	// Its error is that of a deadline or of a closed connection: the read that follows meets it again.
	_ = c.socket.waits.Read(c.turn)
	q := &c.question
	q.request = nil
	if !q.asked { // the deadline had passed before
		return c.lookAndWrite(request)
	}
	return q.sent, q.err
}

// turnFD is called by the runtime when the question begins, and again when there is something to read.
func (c *h1conn) turnFD(uintptr) (done bool) {
	q := &c.question
	if q.asked {
		return true
	}
	q.asked = true
	q.sent, q.err = c.lookAndWrite(q.request)
	return q.err != nil
}

func (c *h1conn) lookAndWrite(p []byte) (int, error) {
	if !c.quiet() {
		return 0, errNotQuiet
	}
	return c.Write(p)
}

// silence looks whether the peer of a connection has sent something, without taking it.
type silence struct {
	tls  *tls.Conn
	raw  syscall.RawConn // of a plaintext connection
	peek func(fd uintptr)
	over bool // what peek found
	// waits is the socket, with TLS or without; nil for what is no socket.
	waits syscall.RawConn
	// limit is the TCP_USER_TIMEOUT that was taken off, in milliseconds.
	limit int
}

// endure takes the bound off that upstream.Endpoint sets for a peer that acknowledges nothing. It holds for one as well
// that acknowledges and has no room, however long: Linux probes a window of 0, and gives the connection up when the time
// is over, whatever the answers are (tcp_probe_timer). That is an application which reads slowly, and not a machine that
// is gone.
func (s *silence) endure() {
	if s.waits == nil || s.limit != 0 {
		return
	}
	_ = s.waits.Control(func(fd uintptr) {
		if limit, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); err == nil && limit > 0 {
			s.limit = limit
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 0)
		}
	})
}

// hurry sets the bound again.
func (s *silence) hurry() {
	if s.limit == 0 {
		return
	}
	_ = s.waits.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, s.limit)
	})
	s.limit = 0
}

// watch sets the connection. One that is neither TLS nor a socket, as a bridge, counts as silent: it is used for one
// request only.
func (s *silence) watch(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		s.tls = t
		if c, ok := t.NetConn().(*mtls.Conn); ok {
			s.waits = c.Socket()
		}
		return
	}
	if sc, ok := conn.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			s.raw, s.peek, s.waits = raw, s.peekFD, raw
		}
	}
}

// lasts reports whether nothing has come, not even the end. taken says that the last read of the connection left
// room in its buffer.
func (s *silence) lasts(taken bool) bool {
	switch {
	case s.tls != nil:
		return mtls.Quiet(s.tls, taken)
	case s.raw == nil:
		return true
	}
	// Control and not Read: a read deadline that has passed meanwhile is of no interest.
	s.over = true
	return s.raw.Control(s.peek) == nil && !s.over
}

// acknowledged returns how many bytes the peer's machine has taken over the life of a plaintext connection that was
// opened here.
func (s *silence) acknowledged() (n int64, known bool) {
	err := s.raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return
		}
		n, known = int64(info.Bytes_acked)-1, true // the SYN counts as one
	})
	return n, known && err == nil
}

func (s *silence) peekFD(fd uintptr) {
	var b [1]byte
	for {
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		if err == syscall.EINTR {
			continue
		}
		s.over = err != syscall.EAGAIN // a byte, the end, or a reset
		return
	}
}
