package http1

import (
	"errors"
	"io"
	"os"
	"sync"
)

const (
	// IdleSize is how much an idle connection holds for each direction, in bytes, once anything has come.
	IdleSize = 4 << 10
	// BulkSize is how much it holds while a large body passes through.
	BulkSize = 64 << 10
	// coalesce bounds how much is gathered for one write.
	coalesce = 16 << 10
)

// BulkPool holds buffers of BulkSize bytes for all connections. It is safe for concurrent use.
type BulkPool struct{ pool sync.Pool }

// Get returns a buffer of which the content is undefined.
func (p *BulkPool) Get() *[BulkSize]byte {
	if b, ok := p.pool.Get().(*[BulkSize]byte); ok {
		return b
	}
	return new([BulkSize]byte)
}

// Put gives a buffer back.
func (p *BulkPool) Put(b *[BulkSize]byte) { p.pool.Put(b) }

// Reader buffers what comes in on a connection.
type Reader struct {
	// Stalled, when set, is called when a read hits its deadline, and says whether to try again.
	Stalled func() bool

	src  io.Reader
	buf  []byte
	r, w int
	brim bool            // the last read filled all the room that there was
	bulk *[BulkSize]byte // buf's storage while a bulk body passes
	idle []byte          // and what buf was before
}

// Reset begins anew with src, without anything that was read and without Stalled.
func (b *Reader) Reset(src io.Reader) { *b = Reader{src: src} }

// Empty reports whether all that was read has been consumed.
func (b *Reader) Empty() bool { return b.r == b.w }

// NothingCame reports whether the source has brought nothing since all before was consumed, even if it was asked.
func (b *Reader) NothingCame() bool { return b.w == 0 }

// FilledUp reports whether the last read filled all the room that there was: the source may have more.
func (b *Reader) FilledUp() bool { return b.brim }

// Buffered returns what has been read and not consumed; it is valid until the next Fill.
func (b *Reader) Buffered() []byte { return b.buf[b.r:b.w] }

// Discard consumes n bytes of what is buffered.
func (b *Reader) Discard(n int) { b.r += n }

// ErrFull is a head, or a line, that is larger than MaxHead.
var ErrFull = errors.New("the buffer is full")

// Fill reads once more. It moves what is buffered to the front or to a larger buffer, up to MaxHead.
func (b *Reader) Fill() error {
	if b.r == b.w {
		b.r, b.w = 0, 0
	}
	if b.w == len(b.buf) {
		if err := b.makeRoom(); err != nil {
			return err
		}
	}
	n, err := b.src.Read(b.buf[b.w:])
	for n == 0 && b.Stalled != nil && errors.Is(err, os.ErrDeadlineExceeded) && b.Stalled() {
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

func (b *Reader) makeRoom() error {
	if b.r > 0 {
		b.w = copy(b.buf, b.buf[b.r:b.w])
		b.r = 0
		return nil
	}
	if len(b.buf) >= MaxHead {
		return ErrFull
	}
	grown := make([]byte, max(IdleSize, 2*len(b.buf)))
	copy(grown, b.buf[:b.w])
	b.buf = grown
	return nil
}

// useBulk swaps in a large buffer; endBulk gives it back.
func (b *Reader) useBulk(p *BulkPool) {
	if b.bulk != nil || len(b.buf) >= BulkSize {
		return
	}
	b.bulk, b.idle = p.Get(), b.buf
	b.w = copy(b.bulk[:], b.buf[b.r:b.w])
	b.r = 0
	b.buf = b.bulk[:]
}

func (b *Reader) endBulk(p *BulkPool) {
	if b.bulk == nil {
		return
	}
	rest := b.w - b.r
	if rest > len(b.idle) {
		b.idle = make([]byte, rest)
	}
	copy(b.idle, b.buf[b.r:b.w])
	b.buf, b.r, b.w = b.idle, 0, rest
	p.Put(b.bulk)
	b.bulk, b.idle = nil, nil
}

// Read hands out what is buffered, then reads from the source itself.
func (b *Reader) Read(p []byte) (int, error) {
	if b.r < b.w {
		n := copy(p, b.buf[b.r:b.w])
		b.r += n
		return n, nil
	}
	return b.src.Read(p)
}

// ReadHead reads until a whole head is buffered and returns it; it must be discarded by the caller once it is
// no longer needed. started is called once when some but not all of the head has come.
func (b *Reader) ReadHead(started func()) ([]byte, error) {
	seen := 0
	for {
		p := b.Buffered()
		if seen == 0 && len(p) >= 2 && p[0] == '\r' && p[1] == '\n' { // RFC 9112 section 2.2
			b.Discard(2)
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

		if err := b.Fill(); err != nil {
			if errors.Is(err, io.EOF) && seen > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// Writer gathers what goes out on a connection and writes it in few writes.
type Writer struct {
	// Pending is what waits to be written; a head is appended to it where it is made.
	Pending []byte

	dst   io.Writer
	pool  *BulkPool
	wrote int             // writes so far
	bulk  *[BulkSize]byte // pending's storage while much is gathered
	idle  []byte          // and what pending was before
}

// Reset begins anew, with another destination; nothing is pending.
func (o *Writer) Reset(dst io.Writer, pool *BulkPool) {
	*o = Writer{dst: dst, pool: pool, Pending: o.Pending[:0]}
}

// Writes returns how many writes the destination has got since Reset.
func (o *Writer) Writes() int { return o.wrote }

// Flush writes what is pending.
func (o *Writer) Flush() error {
	if len(o.Pending) == 0 {
		return nil
	}
	o.wrote++
	_, err := o.dst.Write(o.Pending)
	o.Pending = o.Pending[:0]
	return err
}

// Add appends p to what is pending, or sends it at once when it is large.
func (o *Writer) Add(p []byte) error {
	if len(o.Pending)+len(p) > coalesce {
		if err := o.Flush(); err != nil {
			return err
		}
		if len(p) >= coalesce/2 {
			o.wrote++
			_, err := o.dst.Write(p)
			return err
		}
	}
	if n := len(o.Pending) + len(p); n > IdleSize && n > cap(o.Pending) && o.bulk == nil {
		o.bulk, o.idle = o.pool.Get(), o.Pending
		o.Pending = append(o.bulk[:0], o.Pending...)
	}
	o.Pending = append(o.Pending, p...)
	return nil
}

// Release gives back what an idle connection does not need.
func (o *Writer) Release() {
	if o.bulk != nil {
		o.pool.Put(o.bulk)
		o.Pending, o.bulk, o.idle = o.idle[:0], nil, nil
	}
	if cap(o.Pending) > IdleSize {
		o.Pending = nil
	}
}
