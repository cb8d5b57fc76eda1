package duplex

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/proxy/mtls"
)

// copyBuffers are lent to directions that have something to move.
var copyBuffers = sync.Pool{New: func() any { return new([mtls.BufferSize]byte) }}

// source is what a direction reads from. A read waits without holding a
// buffer; what it returns is good until the next read or release.
type source interface {
	read() ([]byte, error)
	release()
	deadline(time.Time) error
}

// sink is what a direction writes to.
type sink interface{ write([]byte) error }

// newSource returns the source for a connection. Of a TLS connection it is known
// whether anything is left to read only over an *mtls.Conn.
func newSource(c net.Conn) source {
	switch t := c.(type) {
	case *net.TCPConn:
		if rc, err := t.SyscallConn(); err == nil {
			s := &rawSource{c: t, rc: rc}
			s.try = s.tryRead
			return s
		}
	case *tls.Conn:
		if rec, ok := t.NetConn().(*mtls.Conn); ok {
			rec.Instant()
			return &tlsSource{c: t, rec: rec}
		}
	}
	return &anySource{c: c}
}

func newSink(c net.Conn) sink {
	switch t := c.(type) {
	case *net.TCPConn:
		return &rawSink{t}
	case *tls.Conn:
		if rec, ok := t.NetConn().(*mtls.Conn); ok {
			return &tlsSink{t, rec}
		}
	}
	return anySink{c}
}

// rawSource reads a TCP connection as it is.
type rawSource struct {
	c   *net.TCPConn
	rc  syscall.RawConn
	try func(fd uintptr) bool
	buf *[mtls.BufferSize]byte
	n   int
	err error
}

func (s *rawSource) read() ([]byte, error) {
	s.n, s.err = 0, nil
	if err := s.rc.Read(s.try); err != nil {
		s.release()
		return nil, err
	}

	switch {
	case s.err != nil:
		s.release()
		return nil, s.err
	case s.n == 0:
		s.release()
		return nil, io.EOF
	}
	return s.buf[:s.n], nil
}

// tryRead is called by the runtime when the socket may be readable. It returns
// false to wait on, and gives the buffer back meanwhile: thousands of idle
// connections must not hold one each.
func (s *rawSource) tryRead(fd uintptr) bool {
	if s.buf == nil {
		s.buf = copyBuffers.Get().(*[mtls.BufferSize]byte)
	}
	for {
		n, err := unix.Read(int(fd), s.buf[:])
		switch err {
		case nil:
			s.n = n
			return true
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			s.release()
			return false
		default:
			s.err = &net.OpError{Op: "read", Net: "tcp", Source: s.c.LocalAddr(), Addr: s.c.RemoteAddr(), Err: err}
			return true
		}
	}
}

func (s *rawSource) release() {
	if s.buf != nil {
		copyBuffers.Put(s.buf)
		s.buf = nil
	}
}

func (s *rawSource) deadline(t time.Time) error { return s.c.SetReadDeadline(t) }

// tlsSource reads a TLS connection, as many records at once as have arrived.
type tlsSource struct {
	c   *tls.Conn
	rec *mtls.Conn
	buf *[mtls.BufferSize]byte
}

// maxPlaintext is the most that one record holds (RFC 8446, section 5.1).
const maxPlaintext = 1 << 14

func (s *tlsSource) read() ([]byte, error) {
	n := 0
	for {
		if n == 0 && !s.rec.Buffered() {
			s.release()
			if err := s.rec.Wait(); err != nil {
				return nil, err
			}
		}

		if s.buf == nil {
			s.buf = copyBuffers.Get().(*[mtls.BufferSize]byte)
		}

		k, err := s.c.Read(s.buf[n:])
		n += k
		if errors.Is(err, mtls.ErrWouldBlock) {
			if n == 0 {
				continue // what came was no data, but a session ticket or the like
			}
			err = nil
		}

		if err != nil || !s.rec.Buffered() || len(s.buf)-n < maxPlaintext {
			return s.buf[:n], err
		}
	}
}

func (s *tlsSource) release() {
	if s.buf != nil {
		copyBuffers.Put(s.buf)
		s.buf = nil
	}
}

func (s *tlsSource) deadline(t time.Time) error { return s.rec.SetReadDeadline(t) }

// anySource reads whatever else there may be.
type anySource struct {
	c   net.Conn
	buf [16 << 10]byte
}

func (s *anySource) read() ([]byte, error) {
	n, err := s.c.Read(s.buf[:])
	return s.buf[:n], err
}

func (s *anySource) release() {}

func (s *anySource) deadline(t time.Time) error { return s.c.SetReadDeadline(t) }

type rawSink struct{ c *net.TCPConn }

func (s *rawSink) write(b []byte) error {
	_, err := s.c.Write(b)
	return err
}

// tlsSink sends all records of one write in one system call.
type tlsSink struct {
	c   *tls.Conn
	rec *mtls.Conn
}

func (s *tlsSink) write(b []byte) error {
	if len(b) <= maxPlaintext {
		_, err := s.c.Write(b)
		return err
	}

	// crypto/tls writes each record by itself.
	s.rec.Cork()
	_, err := s.c.Write(b)
	if uerr := s.rec.Uncork(); err == nil {
		err = uerr
	}
	return err
}

type anySink struct{ c net.Conn }

func (s anySink) write(b []byte) error {
	_, err := s.c.Write(b)
	return err
}
