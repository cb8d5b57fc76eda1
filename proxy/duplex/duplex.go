// Package duplex copies between two connections, both ways at once: from the one
// that was accepted (down) to the one that was dialled for it (up), and back.
//
// It knows nothing of what the bytes mean, opens no connections and counts
// nothing itself. A direction that waits holds no buffer, and one that moves a
// lot between two plain TCP connections is left to the kernel (splice).
package duplex

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Side is one of the two connections.
type Side uint8

// Sides.
const (
	None Side = iota
	Down      // the connection that was accepted
	Up        // the connection that was dialled
	// Clock stands for neither: the pair was as old as it may become.
	Clock
)

// Options of a [Copy].
type Options struct {
	// Idle ends the pair when nothing moved for so long, in either direction.
	// Zero: never.
	Idle time.Duration
	// MaxAge ends the pair after so long, whatever moves. Zero: never.
	MaxAge time.Duration
	// Moved is told how many bytes were received from down, and sent to it,
	// since the last call: now and then, and at the end. It is called from two
	// goroutines. Nil: nobody is told.
	Moved func(received, sent int64)
}

// Copy copies between two connections until both directions have ended, one of
// them breaks, or nothing moves any more. The end of one direction is passed on
// as such (CloseWrite), and the other goes on. Copy returns the side at fault
// when something broke, Clock when MaxAge was over, None otherwise. The caller
// closes both connections.
//
// Copies are fastest between *net.TCPConn and *tls.Conn over *mtls.Conn.
func Copy(down, up net.Conn, o Options) Side {
	p := &pair{down: down, up: up, idle: o.Idle, moved: o.Moved}
	if p.moved == nil {
		p.moved = func(int64, int64) {}
	}

	toUp, toDown := newDirection(p, Down, Up), newDirection(p, Up, Down)
	toUp.other, toDown.other = toDown, toUp

	if o.MaxAge > 0 {
		age := time.AfterFunc(o.MaxAge, func() { p.abort(Clock, errAge) })
		defer age.Stop()
	}

	var other sync.WaitGroup
	other.Go(toDown.run)
	toUp.run()
	other.Wait()
	p.once.Do(func() {}) // waits for an abort by the clock that is under way
	return p.broken
}

// pair is what the two directions share.
type pair struct {
	down, up net.Conn
	idle     time.Duration
	moved    func(received, sent int64)
	total    atomic.Int64 // bytes, both directions together

	once   sync.Once // guards the abort and broken
	broken Side
}

// conn returns the connection of a side.
func (p *pair) conn(s Side) net.Conn {
	if s == Down {
		return p.down
	}
	return p.up
}

// abort ends both directions at once. What broke on one side is shown to the
// other as a reset, not as a regular end: a truncated answer must not look
// whole.
func (p *pair) abort(broken Side, err error) {
	p.once.Do(func() {
		if !errors.Is(err, errIdle) {
			p.broken = broken
		}
		if p.broken == Down || p.broken == Up {
			reset(p.down)
			reset(p.up)
		}

		// Close of a TLS connection may wait to say goodbye; unblock the other
		// direction first.
		past := time.Unix(1, 0)
		_ = p.down.SetDeadline(past)
		_ = p.up.SetDeadline(past)
		closeRaw(p.down)
		closeRaw(p.up)
	})
}

// raw returns the TCP connection beneath, nil when there is none.
func raw(c net.Conn) *net.TCPConn {
	switch t := c.(type) {
	case *net.TCPConn:
		return t
	case interface{ NetConn() net.Conn }:
		return raw(t.NetConn())
	case interface{ Raw() *net.TCPConn }:
		return t.Raw()
	}
	return nil
}

// reset makes the close to come send a reset.
func reset(c net.Conn) {
	if t := raw(c); t != nil {
		_ = t.SetLinger(0)
	}
}

func closeRaw(c net.Conn) {
	if t := raw(c); t != nil {
		_ = t.Close()
		return
	}
	_ = c.Close()
}
