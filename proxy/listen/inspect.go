package listen

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// seen is what the inspectors found out.
type seen struct {
	hello
	tls    bool
	http   config.Protocol // of a plaintext connection
	silent bool            // nothing came in time
}

// transport is Envoy's name for what was detected.
func (s *seen) transport() string {
	if s.tls {
		return "tls"
	}
	return "raw_buffer"
}

// protocols are what filter chains match application_protocols against.
func (s *seen) protocols() []string {
	switch {
	case s.tls:
		return s.alpn
	case s.http == config.ProtocolHTTP1:
		return []string{"http/1.1"}
	case s.http == config.ProtocolHTTP2:
		return []string{"h2c"}
	}
	return nil
}

// helloTimeout bounds the wait for the rest of a ClientHello that has begun.
const helloTimeout = 10 * time.Second

// errInspectTimeout tells that too little came in time, on a listener that
// does not go on without.
var errInspectTimeout = errors.New("the first bytes did not come in time")

// peekBuffers are as large as a ClientHello and a request's head mostly are.
var peekBuffers = sync.Pool{New: func() any { return new([4 << 10]byte) }}

// strangerPatience is how long a client from outside may keep silent where its
// first bytes are needed; Envoy's listener_filters_timeout is as long.
const strangerPatience = 15 * time.Second

// applicationPatience is that of the proxy's own application. It may open
// connections long before it uses them, as pools do; their idle timeout is as
// long.
const applicationPatience = time.Hour

// patience is how long to wait at most for the first bytes of a client that
// must speak first.
func patience(dir config.Direction, stranger time.Duration) time.Duration {
	if dir == config.DirectionOutbound {
		return applicationPatience
	}
	return stranger
}

// inspection says what to look for in the first bytes of a connection.
type inspection struct {
	tls, http bool
	wait      time.Duration // for the first bytes
	goOn      bool          // with nothing seen, when the time is over
}

// inspection is what the choice of a chain for a destination depends on, as far
// as the listener looks at all.
func (l *listener) inspection(dst netip.AddrPort, firstBytes time.Duration) inspection {
	look := l.match.needs(dst)
	look.tls = look.tls && l.cfg.InspectTLS
	look.http = look.http && l.cfg.InspectHTTP
	look.goOn = l.cfg.ContinueOnTimeout
	look.wait = patience(l.cfg.Direction, firstBytes)
	if t := l.cfg.InspectTimeout; t > 0 {
		look.wait = min(t, look.wait)
	}
	return look
}

// inspect looks at the first bytes of a connection and leaves them there.
func inspect(c *net.TCPConn, look inspection) (seen, error) {
	var s seen
	raw, err := c.SyscallConn()
	if err != nil {
		return s, err
	}
	if err := c.SetReadDeadline(time.Now().Add(look.wait)); err != nil {
		return s, err
	}
	defer c.SetReadDeadline(time.Time{})

	p := peeker{inspection: look, seen: &s}
	err = raw.Read(p.look)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = p.late(c, raw)
	}
	if p.pooled != nil {
		peekBuffers.Put(p.pooled)
	}

	if errors.Is(err, os.ErrDeadlineExceeded) {
		if !look.goOn || p.partial {
			return s, errInspectTimeout
		}
		s.silent = true
		return s, nil
	}

	if err == nil {
		err = p.err
	}
	return s, err
}

// late looks once more when the time is over: on a busy machine, what came in
// time may not have been looked at. For the rest of a ClientHello it waits: the
// time is meant for servers that speak first, and here the client does.
func (p *peeker) late(c *net.TCPConn, raw syscall.RawConn) error {
	enough := false
	if err := raw.Control(func(fd uintptr) { enough = p.look(fd) }); err != nil || enough {
		return err
	}
	if !p.partial {
		return os.ErrDeadlineExceeded
	}
	if err := c.SetReadDeadline(time.Now().Add(helloTimeout)); err != nil {
		return err
	}
	return raw.Read(p.look)
}

// peeker looks at the bytes in the socket each time that more have come.
type peeker struct {
	inspection
	seen    *seen
	pooled  *[4 << 10]byte
	large   []byte // instead, where that is too small
	last    int    // bytes that were there at the last look
	partial bool   // a ClientHello has begun
	err     error
}

// look is called by the runtime when the socket may be readable; it returns
// true when it has seen enough.
func (p *peeker) look(fd uintptr) bool {
	for {
		buf := p.buffer()
		n, _, err := unix.Recvfrom(int(fd), buf, unix.MSG_PEEK)

		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			// Who has sent nothing yet may not do so for an hour, and is not to
			// hold a buffer.
			if p.pooled != nil && p.large == nil && p.last == 0 {
				peekBuffers.Put(p.pooled)
				p.pooled = nil
			}
			return false
		case err != nil:
			p.err = os.NewSyscallError("recvfrom", err)
			return true
		}

		if n == len(buf) && n < maxHello && !p.decide(buf[:n], false) {
			p.large = make([]byte, min(len(buf)*4, maxHello))
			continue
		}

		// The same bytes again: the peer's end has come, or the runtime woke us
		// for nothing. Peeking cannot tell, since the end comes after the bytes.
		final := n >= maxHello || n == p.last && peerEnded(int(fd))
		p.last = n
		return p.decide(buf[:n], final)
	}
}

// peerEnded tells whether the peer will send no more.
func peerEnded(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0 && p[0].Revents != 0
}

func (p *peeker) buffer() []byte {
	if p.large != nil {
		return p.large
	}
	if p.pooled == nil {
		p.pooled = peekBuffers.Get().(*[4 << 10]byte)
	}
	return p.pooled[:]
}

// decide tells whether the bytes suffice. final says that no more will come.
func (p *peeker) decide(b []byte, final bool) bool {
	if len(b) == 0 {
		return true
	}
	if p.tls {
		h, err := parseHello(b)
		switch {
		case err == nil:
			p.seen.hello, p.seen.tls = h, true
			return true
		case err == errMore && !final:
			p.partial = true
			return false
		case err == errBadHello:
			p.err = err
			return true
		}
	}

	if p.http {
		proto, more := sniffHTTP(b)
		if more && !final {
			return false
		}
		p.seen.http = proto
	}
	return true
}
