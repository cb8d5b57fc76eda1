package duplex

import (
	"errors"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// firstTick is how soon after the last movement an idle connection is
	// looked at; the interval doubles up to lastTick.
	firstTick = 15 * time.Second
	lastTick  = 5 * time.Minute
	// spliceAfter is how much a direction moves through buffers before it is
	// worth a pipe of its own, in bytes.
	spliceAfter = 256 << 10
	// spliceChunk bounds what is moved between two looks at the counters, in
	// bytes.
	spliceChunk = 8 << 20
)

// errIdle ends a pair on which nothing moved for too long.
var errIdle = errors.New("nothing moved for the idle timeout")

// errAge ends a pair that is as old as it may become.
var errAge = errors.New("the connection has lasted for as long as it may")

// direction is one half of a pair. Its fields belong to the goroutine that runs
// it; the other half only waits for done.
type direction struct {
	pair     *pair
	from, to Side
	src      source
	dst      sink
	other    *direction
	done     chan struct{} // closed when nothing more is copied

	unreported int64         // bytes that Moved was not told of
	seen       int64         // the pair's total at the last look
	quiet      time.Time     // since when the total stands still, as far as was seen
	tick       time.Duration // to the next look
}

func newDirection(p *pair, from, to Side) *direction {
	return &direction{
		pair: p, from: from, to: to,
		src: newSource(p.conn(from)), dst: newSink(p.conn(to)),
		done: make(chan struct{}),
	}
}

// run copies to the end and passes the end on.
func (d *direction) run() {
	broken, err := d.copy()
	close(d.done)
	d.src.release()
	d.report()
	if err != nil {
		d.pair.abort(broken, err)
		return
	}

	half, ok := d.pair.conn(d.to).(interface{ CloseWrite() error })
	if !ok {
		// Without half-closed connections, the end of one direction is that of
		// both.
		d.pair.abort(d.to, nil)
		return
	}

	if err := half.CloseWrite(); err != nil && !errors.Is(err, net.ErrClosed) {
		d.pair.abort(d.to, err)
		return
	}
	d.watchOther()
}

// watchOther keeps the idle timeout while only the other direction is left. That
// one may wait in a write, for a peer that has ended its own side and reads no
// more, where no read deadline ends it.
func (d *direction) watchOther() {
	if d.pair.idle == 0 {
		return
	}
	d.quiet = time.Now()
	tick := time.NewTicker(min(lastTick, max(d.pair.idle/4, time.Millisecond)))
	defer tick.Stop()

	for {
		select {
		case <-d.other.done:
			return
		case now := <-tick.C:
			if d.idleAt(now) {
				d.pair.abort(None, errIdle)
				return
			}
		}
	}
}

// copy moves bytes until the source ends, which is no error, or something breaks
// on the side that is returned.
func (d *direction) copy() (Side, error) {
	if err := d.rearm(true); err != nil {
		return d.from, err
	}

	fast := 0 // bytes since the last pause
	for {
		b, rerr := d.src.read()
		if len(b) > 0 {
			if err := d.dst.write(b); err != nil {
				return d.to, err
			}
			d.count(int64(len(b)))
			fast += len(b)
		}

		switch {
		case rerr == nil:
		case errors.Is(rerr, io.EOF):
			return None, nil
		case errors.Is(rerr, os.ErrDeadlineExceeded):
			if err := d.look(); err != nil {
				return d.from, err
			}
			fast = 0
		default:
			return d.from, rerr
		}

		if fast >= spliceAfter && d.canSplice() {
			if ended, broken, err := d.splice(); ended {
				return broken, err
			}
			fast = 0
		}
	}
}

// canSplice tells whether the kernel can move bytes by itself.
func (d *direction) canSplice() bool {
	_, a := d.dst.(*rawSink)
	_, b := d.src.(*rawSource)
	return a && b
}

// splice moves bytes inside the kernel until the stream ends, breaks on the side
// that is returned, or pauses (ended is false): a pipe is worth its descriptors
// only while it is used.
func (d *direction) splice() (ended bool, broken Side, err error) {
	dst, src := d.dst.(*rawSink).c, d.src.(*rawSource).c
	d.src.release()

	for {
		n, err := dst.ReadFrom(&io.LimitedReader{R: src, N: spliceChunk})
		d.count(n)
		switch {
		case err == nil && n < spliceChunk:
			return true, None, nil
		case err == nil:
			d.report()
		case errors.Is(err, os.ErrDeadlineExceeded):
			if err := d.look(); err != nil {
				return true, d.from, err
			}
			if n == 0 {
				return false, None, nil
			}
		case isWriteError(err):
			return true, d.to, err
		default:
			return true, d.from, err
		}
	}
}

func isWriteError(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "write" || errors.Is(err, unix.EPIPE)
}

// look is taken when nothing was read for a while. It ends an idle connection,
// and sets the next look.
func (d *direction) look() error {
	d.report()
	before := d.seen
	if d.idleAt(time.Now()) {
		return errIdle
	}
	return d.rearm(d.seen != before)
}

// idleAt tells whether nothing has moved for the idle timeout, in either
// direction.
func (d *direction) idleAt(now time.Time) bool {
	if total := d.pair.total.Load(); total != d.seen {
		d.seen, d.quiet = total, now
	}
	return d.pair.idle > 0 && now.Sub(d.quiet) >= d.pair.idle
}

// rearm sets when to look next. The read deadline does it: it costs nothing
// while bytes come, and wakes only who waits.
func (d *direction) rearm(moved bool) error {
	now := time.Now()
	if d.quiet.IsZero() {
		d.quiet = now
	}

	d.tick = min(d.tick*2, lastTick)
	if moved || d.tick == 0 {
		d.tick = firstTick
	}

	at := now.Add(d.tick)
	if d.pair.idle > 0 {
		if end := d.quiet.Add(d.pair.idle); end.Before(at) {
			at = end
		}
	}
	return d.src.deadline(at)
}

func (d *direction) count(n int64) {
	d.unreported += n
	d.pair.total.Add(n)
}

// report tells what moved since the last time.
func (d *direction) report() {
	n := d.unreported
	if n == 0 {
		return
	}
	d.unreported = 0

	if d.from == Down {
		d.pair.moved(n, 0)
	} else {
		d.pair.moved(0, n)
	}
}
