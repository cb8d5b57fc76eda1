package mtls

import (
	"io"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Sizes of the buffers between a socket and crypto/tls.
const (
	// BufferSize holds three full records and more.
	BufferSize = 64 << 10
	recordHead = 5 // RFC 8446, section 5.1
)

var buffers = sync.Pool{New: func() any { return new([BufferSize]byte) }}

// Conn stands between a TCP connection and crypto/tls. It reads from the
// socket in large pieces, but hands on at most one record at a time, so that
// it is known outside of crypto/tls whether anything is left to read; and it
// can hold written records back, to send several in one system call. While
// nothing is to be read it keeps no buffer: idle connections cost little.
//
// Reads must not overlap each other; writes may overlap reads and each other.
type Conn struct {
	*net.TCPConn
	raw  syscall.RawConn
	fill func(fd uintptr) bool
	look func(fd uintptr) // see poll
	one  [1]byte          // what Quiet reads into

	in         *[BufferSize]byte // nil while empty
	start, end int               // of what in holds
	left       int               // bytes of the current record not handed on
	err        error             // of the last read, for who called it
	instant    bool              // see Instant
	ended      bool              // the peer sent its last byte

	mu     sync.Mutex // guards what follows; held over writes to the socket
	corked bool
	out    *[BufferSize]byte // nil while nothing is queued
	queued int               // bytes in out
}

// NewConn wraps a TCP connection.
func NewConn(t *net.TCPConn) (*Conn, error) {
	raw, err := t.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &Conn{TCPConn: t, raw: raw}
	c.fill, c.look = c.fillFrom, c.lookAt
	return c, nil
}

// Socket gives access to the socket underneath, as for who waits for it.
func (c *Conn) Socket() syscall.RawConn { return c.raw }

// Wait blocks until more bytes are there than before, the peer ended, or the
// read deadline passed. It holds no buffer meanwhile, unless part of a record
// head has come. A peer that ended is no error here: reads tell.
func (c *Conn) Wait() error {
	if c.Buffered() || c.left > 0 && c.end > c.start {
		return nil
	}
	err := c.refill()
	if err == io.EOF {
		c.ended = true
		return nil
	}
	return err
}

// ErrWouldBlock is returned by reads of an [Conn.Instant] connection that has
// nothing at hand. It is temporary, so crypto/tls hands it on and can go on
// where it was.
var ErrWouldBlock net.Error = wouldBlock{}

type wouldBlock struct{}

func (wouldBlock) Error() string   { return "mtls: nothing to read at the moment" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }

// Instant makes reads fail with [ErrWouldBlock] rather than wait; Wait waits.
// A reader that alternates between the two holds no buffer while it waits,
// also when what came was no data but, say, a session ticket.
func (c *Conn) Instant() { c.instant = true }

// Buffered tells whether a whole record is there, so that reading it does not
// block.
func (c *Conn) Buffered() bool {
	n := c.end - c.start
	if c.left > 0 {
		return n >= c.left
	}
	return n >= recordHead && n >= c.recordLen()
}

// recordLen is the length of the record at start, its head included.
func (c *Conn) recordLen() int {
	return recordHead + int(c.in[c.start+3])<<8 + int(c.in[c.start+4])
}

// refill reads more, behind what is there. io.EOF says that the peer sent its
// last byte.
func (c *Conn) refill() error {
	if c.in != nil && c.end == BufferSize {
		copy(c.in[:], c.in[c.start:c.end])
		c.start, c.end = 0, c.end-c.start
	}

	c.err = nil
	before := c.end
	if err := c.raw.Read(c.fill); err != nil {
		return err
	}
	if c.err != nil {
		return c.err
	}
	if c.end == before {
		return io.EOF
	}
	return nil
}

// fillFrom is called by the runtime when the socket may be readable. It returns
// false to wait on, without a buffer.
func (c *Conn) fillFrom(fd uintptr) bool {
	if c.in == nil {
		c.in = buffers.Get().(*[BufferSize]byte)
		c.start, c.end = 0, 0
	}
	for {
		n, err := unix.Read(int(fd), c.in[c.end:])
		switch err {
		case nil:
			c.end += n
			c.release()
			return true
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			c.release()
			return false
		default:
			c.release()
			c.err = &net.OpError{
				Op: "read", Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err,
			}
			return true
		}
	}
}

// release gives the buffer back when it is empty.
func (c *Conn) release() {
	if c.in != nil && c.start == c.end {
		buffers.Put(c.in)
		c.in, c.start, c.end = nil, 0, 0
	}
}

// Read implements io.Reader. It never goes beyond the end of a record.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}

	// At the start of a record, its head tells how far Read may go.
	if c.left == 0 {
		for c.end-c.start < recordHead {
			if c.instant && !c.ended {
				return 0, ErrWouldBlock
			}
			if err := c.refill(); err != nil {
				if c.end > c.start && err == io.EOF {
					break // hand on the torn head: crypto/tls judges it
				}
				return 0, err
			}
		}

		c.left = recordHead
		if c.end-c.start >= recordHead {
			c.left = c.recordLen()
		}
	}

	if c.start == c.end {
		if c.instant && !c.ended {
			return 0, ErrWouldBlock
		}
		if err := c.refill(); err != nil {
			return 0, err
		}
	}

	n := copy(p, c.in[c.start:min(c.end, c.start+c.left)])
	c.start += n
	c.left -= n
	c.release()
	return n, nil
}

// Write implements io.Writer.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if !c.corked {
		return c.TCPConn.Write(p)
	}

	if c.queued+len(p) > BufferSize {
		if err := c.flushLocked(); err != nil {
			return 0, err
		}
	}
	if len(p) > BufferSize {
		return c.TCPConn.Write(p)
	}

	if c.out == nil {
		c.out = buffers.Get().(*[BufferSize]byte)
	}
	c.queued += copy(c.out[c.queued:], p)
	return len(p), nil
}

// Cork holds back what is written until Uncork.
func (c *Conn) Cork() {
	c.mu.Lock()
	c.corked = true
	c.mu.Unlock()
}

// Uncork sends what was held back.
func (c *Conn) Uncork() error {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.corked = false
	err := c.flushLocked()
	if c.out != nil {
		buffers.Put(c.out)
		c.out = nil
	}
	return err
}

// flushLocked sends what is queued.
func (c *Conn) flushLocked() error {
	if c.queued == 0 {
		return nil
	}
	_, err := c.TCPConn.Write(c.out[:c.queued])
	c.queued = 0
	return err
}

// ReadFrom hides the method of the embedded connection, which would go past
// Write.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(onlyWriter{c}, r) }

// WriteTo hides the method of the embedded connection, which would go past
// Read.
func (c *Conn) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, onlyReader{c}) }

type onlyWriter struct{ io.Writer }

type onlyReader struct{ io.Reader }

// Raw returns the TCP connection beneath.
func (c *Conn) Raw() *net.TCPConn { return c.TCPConn }
