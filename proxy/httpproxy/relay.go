package httpproxy

import (
	"errors"
	"io"
	"strconv"
)

// relay moves one message body from in to out without ever holding more than a buffer of it. out's framing is
// in's, except that a body that ends with the connection is made chunked when rechunk is set.
type relay struct {
	in      *inbuf
	out     *outbuf
	pool    *bulkPool
	body    framing
	rechunk bool
	// dechunk drops the framing of a chunked body, and its trailers.
	dechunk bool
	// last is called right before the write that completes the body.
	last func()

	scan     chunkScanner
	trailers head
	moved    int64 // content bytes, without framing
}

// sourceError is a failure to read the body, as opposed to a failure to write it.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

func (r *relay) reset(in *inbuf, out *outbuf, body framing) {
	r.in, r.out, r.body = in, out, body
	r.rechunk, r.dechunk, r.last, r.moved = false, false, nil, 0
	r.scan = chunkScanner{}
}

// run moves the whole body and flushes it.
func (r *relay) run() error {
	var err error
	switch r.body.kind {
	case bodyLength:
		err = r.runLength()
	case bodyChunked:
		err = r.runChunked()
	case bodyUntilClose:
		err = r.runUntilClose()
	}
	if err != nil {
		return err
	}
	if r.last != nil {
		r.last()
	}
	return r.out.flush()
}

// more flushes what is pending, since the next read may block, and reads.
func (r *relay) more() error {
	if err := r.out.flush(); err != nil {
		return err
	}
	if err := r.in.fill(); err != nil {
		if errors.Is(err, io.EOF) && r.body.kind != bodyUntilClose {
			err = io.ErrUnexpectedEOF
		}
		return &sourceError{err}
	}
	return nil
}

func (r *relay) runLength() error {
	left := r.body.length
	if left > idleBuffer && left > int64(len(r.in.buffered())) {
		r.in.useBulk(r.pool)
		defer r.in.endBulk(r.pool)
	}
	for {
		b := r.in.buffered()
		if int64(len(b)) > left {
			b = b[:left]
		}
		left -= int64(len(b))
		if left == 0 && r.last != nil {
			r.last()
			r.last = nil
		}
		if err := r.out.write(b); err != nil {
			return err
		}
		r.in.discard(len(b))
		r.moved += int64(len(b))
		if left == 0 {
			return nil
		}
		if err := r.more(); err != nil {
			return err
		}
	}
}

func (r *relay) runChunked() error {
	for {
		n, passed, err := r.scanBuffered()
		if err != nil {
			return err
		}
		if !r.dechunk {
			if err := r.out.write(r.in.buffered()[passed:n]); err != nil {
				return err
			}
		}
		r.in.discard(n)
		if r.scan.state == chunkTrailers {
			break
		}
		if r.in.bulk == nil && r.moved > idleBuffer {
			r.in.useBulk(r.pool)
			defer r.in.endBulk(r.pool)
		}
		if err := r.more(); err != nil {
			return err
		}
	}
	if err := r.readTrailers(); err != nil {
		return err
	}
	if r.dechunk {
		return nil
	}
	block := r.trailers.appendFields(r.out.pending)
	r.out.pending = append(block, "\r\n"...)
	return nil
}

// scanBuffered walks over as many whole pieces of the chunked body as are buffered. It has passed on the first passed
// bytes of these n already.
func (r *relay) scanBuffered() (n, passed int, err error) {
	b := r.in.buffered()
	for {
		frame, data, err := r.scan.next(b[n:])
		if err != nil {
			return 0, 0, &sourceError{err}
		}
		switch {
		case r.dechunk && data > 0:
			if err := r.out.write(b[n+frame : n+frame+data]); err != nil {
				return 0, 0, err
			}
		case !r.dechunk && r.scan.extra > 0: // what stands after the size, before the CRLF
			end := n + frame - len("\r\n")
			if err := r.out.write(b[passed : end-r.scan.extra]); err != nil {
				return 0, 0, err
			}
			passed = end
		}
		r.scan.extra = 0
		n += frame + data
		r.moved += int64(data)
		if data == 0 {
			return n, passed, nil
		}
	}
}

// readTrailers reads and parses the trailer section; r.trailers is valid until in is filled again.
func (r *relay) readTrailers() error {
	for {
		n, err := r.scan.trailers(r.in.buffered(), &r.trailers)
		if err != nil {
			return &sourceError{err}
		}
		if n > 0 {
			r.in.discard(n)
			return nil
		}
		if err := r.more(); err != nil {
			return err
		}
	}
}

func (r *relay) runUntilClose() error {
	for {
		if b := r.in.buffered(); len(b) > 0 {
			if err := r.writePiece(b); err != nil {
				return err
			}
			r.in.discard(len(b))
			r.moved += int64(len(b))
			if r.in.bulk == nil && r.moved > idleBuffer {
				r.in.useBulk(r.pool)
				defer r.in.endBulk(r.pool)
			}
		}
		if err := r.more(); err != nil {
			if errors.Is(err, io.EOF) {
				break
			}
			return err
		}
	}
	if r.rechunk {
		return r.out.write([]byte("0\r\n\r\n"))
	}
	return nil
}

func (r *relay) writePiece(b []byte) error {
	if !r.rechunk {
		return r.out.write(b)
	}
	var line [20]byte
	size := append(strconv.AppendInt(line[:0], int64(len(b)), 16), "\r\n"...)
	if err := r.out.write(size); err != nil {
		return err
	}
	if err := r.out.write(b); err != nil {
		return err
	}
	return r.out.write([]byte("\r\n"))
}
