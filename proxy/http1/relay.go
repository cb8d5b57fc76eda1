package http1

import (
	"errors"
	"io"
	"strconv"
)

// Relay moves one message body from in to out without ever holding more than a buffer of it. out's framing is
// in's, except that a body that ends with the connection is made chunked when Rechunk is set.
type Relay struct {
	in      *Reader
	out     *Writer
	body    Framing
	Rechunk bool
	// Dechunk drops the framing of a chunked body, and its trailers.
	Dechunk bool
	// Last is called right before the write that completes the body.
	Last func()

	scan    chunkScanner
	trailer Head
	count   int64 // content bytes that moved
}

// SourceError is a failure to read the body, as opposed to a failure to write it.
type SourceError struct{ Err error }

func (e *SourceError) Error() string { return e.Err.Error() }
func (e *SourceError) Unwrap() error { return e.Err }

func (r *Relay) Reset(in *Reader, out *Writer, body Framing) {
	r.in, r.out, r.body = in, out, body
	r.Rechunk, r.Dechunk, r.Last, r.count = false, false, nil, 0
	r.scan = chunkScanner{}
}

// AcceptPadding lets white space stand after the size of a chunk, as old servers send it.
func (r *Relay) AcceptPadding() { r.scan.padded = true }

// Moved returns how many bytes of content have moved, without framing.
func (r *Relay) Moved() int64 { return r.count }

// Trailed reports whether the body was chunked and has come to its end, its trailers included.
func (r *Relay) Trailed() bool { return r.scan.state == chunkDone }

// Trailers returns the trailers of a body of which Trailed is true, as the fields of a head; it is valid until the source is read again.
func (r *Relay) Trailers() *Head { return &r.trailer }

// Run moves the whole body and flushes it.
func (r *Relay) Run() error {
	var err error
	switch r.body.Kind {
	case BodyLength:
		err = r.runLength()
	case BodyChunked:
		err = r.runChunked()
	case BodyUntilClose:
		err = r.runUntilClose()
	}
	if err != nil {
		return err
	}
	if r.Last != nil {
		r.Last()
	}
	return r.out.Flush()
}

// more flushes what is pending, since the next read may block, and reads.
func (r *Relay) more() error {
	if err := r.out.Flush(); err != nil {
		return err
	}
	if err := r.in.Fill(); err != nil {
		if errors.Is(err, io.EOF) && r.body.Kind != BodyUntilClose {
			err = io.ErrUnexpectedEOF
		}
		return &SourceError{err}
	}
	return nil
}

func (r *Relay) runLength() error {
	left := r.body.Length
	if left > IdleSize && left > int64(len(r.in.Buffered())) {
		r.in.useBulk(r.out.pool)
		defer r.in.endBulk(r.out.pool)
	}
	for {
		b := r.in.Buffered()
		if int64(len(b)) > left {
			b = b[:left]
		}
		left -= int64(len(b))
		if left == 0 && r.Last != nil { // before the write: whoever reads it may answer at once
			r.Last()
			r.Last = nil
		}

		if err := r.out.Add(b); err != nil {
			return err
		}
		r.in.Discard(len(b))
		r.count += int64(len(b))

		if left == 0 {
			return nil
		}
		if err := r.more(); err != nil {
			return err
		}
	}
}

func (r *Relay) runChunked() error {
	for {
		n, passed, err := r.scanBuffered()
		if err != nil {
			return err
		}
		if !r.Dechunk {
			if err := r.out.Add(r.in.Buffered()[passed:n]); err != nil {
				return err
			}
		}
		r.in.Discard(n)
		if r.scan.state == chunkTrailers {
			break
		}

		if r.in.bulk == nil && r.count > IdleSize {
			r.in.useBulk(r.out.pool)
			defer r.in.endBulk(r.out.pool)
		}
		if err := r.more(); err != nil {
			return err
		}
	}

	if err := r.readTrailers(); err != nil {
		return err
	}
	if r.Dechunk {
		return nil
	}
	block := r.trailer.AppendFields(r.out.Pending)
	r.out.Pending = append(block, "\r\n"...)
	return nil
}

// scanBuffered walks over as many whole pieces of the chunked body as are buffered. It has passed on the first passed
// bytes of these n already.
func (r *Relay) scanBuffered() (n, passed int, err error) {
	b := r.in.Buffered()
	for {
		frame, data, err := r.scan.next(b[n:])
		if err != nil {
			return 0, 0, &SourceError{err}
		}
		switch {
		case r.Dechunk && data > 0:
			if err := r.out.Add(b[n+frame : n+frame+data]); err != nil {
				return 0, 0, err
			}
		case !r.Dechunk && r.scan.extra > 0: // what stands after the size, before the CRLF
			end := n + frame - len("\r\n")
			if err := r.out.Add(b[passed : end-r.scan.extra]); err != nil {
				return 0, 0, err
			}
			passed = end
		}
		r.scan.extra = 0
		n += frame + data
		r.count += int64(data)
		if data == 0 {
			return n, passed, nil
		}
	}
}

// readTrailers reads and parses the trailer section; r.trailer is valid until in is filled again.
func (r *Relay) readTrailers() error {
	for {
		n, err := r.scan.trailers(r.in.Buffered(), &r.trailer)
		if err != nil {
			return &SourceError{err}
		}
		if n > 0 {
			r.in.Discard(n)
			return nil
		}
		if err := r.more(); err != nil {
			return err
		}
	}
}

func (r *Relay) runUntilClose() error {
	for {
		if b := r.in.Buffered(); len(b) > 0 {
			if err := r.writePiece(b); err != nil {
				return err
			}
			r.in.Discard(len(b))
			r.count += int64(len(b))
			if r.in.bulk == nil && r.count > IdleSize {
				r.in.useBulk(r.out.pool)
				defer r.in.endBulk(r.out.pool)
			}
		}
		if err := r.more(); err != nil {
			if errors.Is(err, io.EOF) {
				break
			}
			return err
		}
	}
	if r.Rechunk {
		return r.out.Add([]byte("0\r\n\r\n"))
	}
	return nil
}

func (r *Relay) writePiece(b []byte) error {
	if !r.Rechunk {
		return r.out.Add(b)
	}
	var line [20]byte
	size := append(strconv.AppendInt(line[:0], int64(len(b)), 16), "\r\n"...)
	if err := r.out.Add(size); err != nil {
		return err
	}
	if err := r.out.Add(b); err != nil {
		return err
	}
	return r.out.Add([]byte("\r\n"))
}
