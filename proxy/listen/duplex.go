package listen

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/proxy/downstream"
)

const (
	// firstTick is how soon after the last movement an idle connection is
	// looked at; the interval doubles up to lastTick.
	firstTick = 15 * time.Second
	lastTick  = 5 * time.Minute
	// spliceAfter is how much a direction moves through buffers before it is
	// worth a pipe of its own.
	spliceAfter = 256 << 10
	// spliceChunk bounds what is moved between two looks at the counters.
	spliceChunk = 8 << 20
)

// duplex copies between two connections until both directions ended.
type duplex struct {
	down, up net.Conn
	idle     time.Duration // zero: for ever
	rec      downstream.TCPRecorder

	moved [2]atomic.Int64  // bytes towards up, towards down
	done  [2]chan struct{} // closed when nothing more is copied
	once  sync.Once
	flags string // why it ended, when not by both sides' will
}

// directions index moved.
const (
	towardsUp = iota
	towardsDown
)

// run copies, and returns the response flags.
func (d *duplex) run() string {
	d.done[towardsUp], d.done[towardsDown] = make(chan struct{}), make(chan struct{})
	var other sync.WaitGroup
	other.Go(func() { d.half(d.down, d.up, towardsDown) })
	d.half(d.up, d.down, towardsUp)
	other.Wait()
	return d.flags
}

// half copies one direction to its end and passes the end on.
func (d *duplex) half(dst, src net.Conn, dir int) {
	p := pipe{d: d, dst: newSink(dst), src: newSource(src), dir: dir}
	err, reading := p.copy()
	close(d.done[dir])
	p.src.release()
	p.report()
	if err == nil {
		if cw, ok := dst.(interface{ CloseWrite() error }); ok {
			// The other direction may go on: a half-closed connection.
			if err = cw.CloseWrite(); err == nil || errors.Is(err, net.ErrClosed) {
				d.watchOther(&p)
				return
			}
		}
		reading = false
	}
	d.abort(flagOf(dir, reading), err)
}

// watchOther keeps the idle timeout while only the other direction is left. That
// direction may wait in a write, for a peer that has ended its own side and reads
// no more, where no deadline ends it.
func (d *duplex) watchOther(p *pipe) {
	other := d.done[1-p.dir]
	if d.idle == 0 {
		return
	}
	p.quiet = time.Now()
	tick := time.NewTicker(min(lastTick, max(d.idle/4, time.Millisecond)))
	defer tick.Stop()
	for {
		select {
		case <-other:
			return
		case now := <-tick.C:
			if p.idleAt(now) {
				d.abort("", errIdle)
				return
			}
		}
	}
}

// flagOf names the side at fault.
func flagOf(dir int, reading bool) string {
	if (dir == towardsDown) == reading {
		return flagUpstream
	}
	return flagDownstream
}

// abort ends both directions at once. What broke on one side is shown to the
// other as a reset, not as a regular end.
func (d *duplex) abort(flag string, err error) {
	d.once.Do(func() {
		d.flags = flag
		if errors.Is(err, errIdle) {
			d.flags = ""
		} else {
			reset(d.down)
			reset(d.up)
		}
		// Close may wait to say goodbye; unblock the other direction first.
		past := time.Unix(1, 0)
		_ = d.down.SetDeadline(past)
		_ = d.up.SetDeadline(past)
		closeRaw(d.down)
		closeRaw(d.up)
	})
}

// raw returns the TCP connection beneath.
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

// errIdle ends a connection on which nothing moved for too long.
var errIdle = errors.New("nothing moved for the idle timeout")

// pipe is one direction of a duplex.
type pipe struct {
	d   *duplex
	dst sink
	src source
	dir int

	reported int64
	quiet    time.Time // since when nothing moved, as far as was seen
	seen     int64
	tick     time.Duration
}

// copy moves bytes until the source ends (nil) or something breaks; reading
// tells on which side.
func (p *pipe) copy() (err error, reading bool) {
	p.rearm(true)
	fast := 0
	for {
		b, rerr := p.src.read()
		if len(b) > 0 {
			if err := p.dst.write(b); err != nil {
				return err, false
			}
			p.d.moved[p.dir].Add(int64(len(b)))
			fast += len(b)
		}
		switch {
		case rerr == nil:
		case errors.Is(rerr, io.EOF):
			return nil, true
		case errors.Is(rerr, os.ErrDeadlineExceeded):
			if err := p.look(); err != nil {
				return err, true
			}
			fast = 0
		default:
			return rerr, true
		}
		if fast >= spliceAfter && p.canSplice() {
			if done, err, reading := p.splice(); done {
				return err, reading
			}
			fast = 0
		}
	}
}

// canSplice tells whether the kernel can move bytes by itself.
func (p *pipe) canSplice() bool {
	_, a := p.dst.(*rawSink)
	_, b := p.src.(*rawSource)
	return a && b
}

// splice moves bytes inside the kernel until the stream pauses.
func (p *pipe) splice() (done bool, err error, reading bool) {
	dst, src := p.dst.(*rawSink).c, p.src.(*rawSource).c
	p.src.release()
	for {
		n, err := dst.ReadFrom(&io.LimitedReader{R: src, N: spliceChunk})
		p.d.moved[p.dir].Add(n)
		switch {
		case err == nil && n < spliceChunk:
			return true, nil, true
		case err == nil:
			p.report()
		case errors.Is(err, os.ErrDeadlineExceeded):
			if err := p.look(); err != nil {
				return true, err, true
			}
			if n == 0 {
				return false, nil, true
			}
		default:
			return true, err, !isWriteError(err)
		}
	}
}

func isWriteError(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "write" || errors.Is(err, unix.EPIPE)
}

// look is taken when nothing was read for a while. It ends an idle
// connection, and sets the next look.
func (p *pipe) look() error {
	p.report()
	before := p.seen
	if p.idleAt(time.Now()) {
		return errIdle
	}
	return p.rearm(p.seen != before)
}

// idleAt tells whether nothing has moved for the idle timeout, in either
// direction.
func (p *pipe) idleAt(now time.Time) bool {
	total := p.d.moved[0].Load() + p.d.moved[1].Load()
	if total != p.seen {
		p.seen, p.quiet = total, now
	}
	return p.d.idle > 0 && now.Sub(p.quiet) >= p.d.idle
}

// rearm sets when to look next.
func (p *pipe) rearm(moved bool) error {
	now := time.Now()
	if p.quiet.IsZero() {
		p.quiet = now
	}
	p.tick = min(p.tick*2, lastTick)
	if moved || p.tick == 0 {
		p.tick = firstTick
	}
	at := now.Add(p.tick)
	if p.d.idle > 0 {
		if end := p.quiet.Add(p.d.idle); end.Before(at) {
			at = end
		}
	}
	return p.src.deadline(at)
}

// report tells the recorder what moved since the last time.
func (p *pipe) report() {
	n := p.d.moved[p.dir].Load()
	delta := n - p.reported
	p.reported = n
	if delta == 0 {
		return
	}
	if p.dir == towardsUp {
		p.d.rec.Add(delta, 0)
	} else {
		p.d.rec.Add(0, delta)
	}
}
