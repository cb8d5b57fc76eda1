package httpproxy

import (
	"errors"
	"io"
	"sync"
)

const (
	// idleBuffer is what an idle connection holds.
	idleBuffer = 4 << 10
	// bulkBuffer is what a connection holds while a large body passes through.
	bulkBuffer = 64 << 10
	// coalesce bounds how much is gathered for one write.
	coalesce = 16 << 10
)

// bulkPool holds buffers of bulkBuffer bytes.
type bulkPool struct{ pool sync.Pool }

func (p *bulkPool) get() *[bulkBuffer]byte {
	if b, ok := p.pool.Get().(*[bulkBuffer]byte); ok {
		return b
	}
	return new([bulkBuffer]byte)
}

func (p *bulkPool) put(b *[bulkBuffer]byte) { p.pool.Put(b) }

// inbuf buffers what comes in on a connection.
type inbuf struct {
	src io.Reader
	// stalled, when set, is called when a read hits its deadline, and says whether to try again.
	stalled func() bool
	buf     []byte
	r, w    int
	brim    bool              // the last read filled all the room that there was
	bulk    *[bulkBuffer]byte // buf's storage while a bulk body passes
	idle    []byte            // and what buf was before
}

// buffered returns what has been read and not consumed; it is valid until the next fill.
func (b *inbuf) buffered() []byte { return b.buf[b.r:b.w] }

func (b *inbuf) discard(n int) { b.r += n }

var errFull = errors.New("the buffer is full")

// fill reads once more. It moves what is buffered to the front or to a larger buffer, up to maxHead.
func (b *inbuf) fill() error {
	if b.r == b.w {
		b.r, b.w = 0, 0
	}
	if b.w == len(b.buf) {
		if err := b.makeRoom(); err != nil {
			return err
		}
	}
	n, err := b.src.Read(b.buf[b.w:])
	for n == 0 && b.stalled != nil && isTimeout(err) && b.stalled() {
		n, err = b.src.Read(b.buf[b.w:])
	}
	b.w += n
	b.brim = b.w == len(b.buf)
	if n > 0 {
		return nil
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

func (b *inbuf) makeRoom() error {
	if b.r > 0 {
		b.w = copy(b.buf, b.buf[b.r:b.w])
		b.r = 0
		return nil
	}
	if len(b.buf) >= maxHead {
		return errFull
	}
	grown := make([]byte, max(idleBuffer, 2*len(b.buf)))
	copy(grown, b.buf[:b.w])
	b.buf = grown
	return nil
}

// useBulk swaps in a large buffer; endBulk gives it back.
func (b *inbuf) useBulk(p *bulkPool) {
	if b.bulk != nil || len(b.buf) >= bulkBuffer {
		return
	}
	b.bulk, b.idle = p.get(), b.buf
	b.w = copy(b.bulk[:], b.buf[b.r:b.w])
	b.r = 0
	b.buf = b.bulk[:]
}

func (b *inbuf) endBulk(p *bulkPool) {
	if b.bulk == nil {
		return
	}
	rest := b.w - b.r
	if rest > len(b.idle) {
		b.idle = make([]byte, rest)
	}
	copy(b.idle, b.buf[b.r:b.w])
	b.buf, b.r, b.w = b.idle, 0, rest
	p.put(b.bulk)
	b.bulk, b.idle = nil, nil
}

// Read hands out what is buffered, then reads from the source itself.
func (b *inbuf) Read(p []byte) (int, error) {
	if b.r < b.w {
		n := copy(p, b.buf[b.r:b.w])
		b.r += n
		return n, nil
	}
	return b.src.Read(p)
}

// readHead reads until a whole head is buffered and returns it; it must be discarded by the caller once it is
// no longer needed. started is called once when some but not all of the head has come.
func (b *inbuf) readHead(started func()) ([]byte, error) {
	seen := 0
	for {
		p := b.buffered()
		if seen == 0 && len(p) >= 2 && p[0] == '\r' && p[1] == '\n' { // RFC 9112 section 2.2
			b.discard(2)
			p = p[2:]
		}
		if len(p) > seen {
			n, err := findHeadEnd(p, seen)
			if n > 0 || err != nil {
				return p[:n], err
			}
			seen = len(p)
			if started != nil {
				started()
				started = nil
			}
		}
		if err := b.fill(); err != nil {
			if errors.Is(err, io.EOF) && seen > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// outbuf gathers what goes out on a connection and writes it in few writes.
type outbuf struct {
	dst     io.Writer
	pool    *bulkPool
	pending []byte
	writes  int               // so far
	bulk    *[bulkBuffer]byte // pending's storage while much is gathered
	idle    []byte            // and what pending was before
}

func (o *outbuf) flush() error {
	if len(o.pending) == 0 {
		return nil
	}
	o.writes++
	_, err := o.dst.Write(o.pending)
	o.pending = o.pending[:0]
	return err
}

// write appends p to what is pending, or sends it at once when it is large.
func (o *outbuf) write(p []byte) error {
	if len(o.pending)+len(p) > coalesce {
		if err := o.flush(); err != nil {
			return err
		}
		if len(p) >= coalesce/2 {
			o.writes++
			_, err := o.dst.Write(p)
			return err
		}
	}
	if n := len(o.pending) + len(p); n > idleBuffer && n > cap(o.pending) && o.bulk == nil {
		o.bulk, o.idle = o.pool.get(), o.pending
		o.pending = append(o.bulk[:0], o.pending...)
	}
	o.pending = append(o.pending, p...)
	return nil
}

// release gives back what an idle connection does not need.
func (o *outbuf) release() {
	if o.bulk != nil {
		o.pool.put(o.bulk)
		o.pending, o.bulk, o.idle = o.idle[:0], nil, nil
	}
	if cap(o.pending) > idleBuffer {
		o.pending = nil
	}
}
