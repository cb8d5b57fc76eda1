package mtls

import (
	"crypto/tls"
	"errors"

	"golang.org/x/sys/unix"
)

// Quiet reports whether nothing waits to be read on a connection, wherever it
// may lie: in the socket, not yet decrypted, or decrypted already. A peer that
// hung up is not quiet. Session tickets, which servers send after the
// handshake (RFC 8446, section 4.6.1), are taken in and are no noise.
//
// taken says that the last Read left room in the slice that it was given, so
// that nothing decrypted is left; when it is false, Quiet looks for itself.
//
// It does not block and loses nothing that matters: of a connection that is
// not quiet, the only use is to close it. Nothing else may read meanwhile.
func Quiet(t *tls.Conn, taken bool) bool {
	c, ok := t.NetConn().(*Conn)
	if !ok {
		return false // nothing is known about other connections
	}

	// crypto/tls gets "nothing at the moment" instead of waiting, and can go
	// on where it was.
	was := c.instant
	c.instant = true
	defer func() { c.instant = was }()

	for {
		before := c.end - c.start
		if c.poll() != nil {
			return false
		}

		got := c.end-c.start > before
		if !got && before == 0 && c.left == 0 && taken {
			return true
		}

		n, err := t.Read(c.one[:])
		if n > 0 || !errors.Is(err, ErrWouldBlock) || c.left > 0 || c.end > c.start {
			return false // data, the end, or the beginning of a record
		}
		if !got {
			return true
		}
		taken = true // that Read came back empty-handed
	}
}

var errEnded = errors.New("the peer ended the connection")

// poll reads once from the socket without waiting, whatever the deadline is.
func (c *Conn) poll() error {
	c.err = nil
	if err := c.raw.Control(c.look); err != nil {
		return err
	}
	return c.err
}

// lookAt is poll's access to the socket.
func (c *Conn) lookAt(fd uintptr) {
	if c.in == nil {
		c.in = buffers.Get().(*[BufferSize]byte)
		c.start, c.end = 0, 0
	}
	defer c.release()

	if c.end == BufferSize {
		return // there is more than enough to read
	}
	for {
		n, err := unix.Read(int(fd), c.in[c.end:])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
		case err != nil:
			c.err = err
		case n == 0:
			c.err = errEnded
		default:
			c.end += n
		}
		return
	}
}
