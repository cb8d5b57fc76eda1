package http2

import (
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func appendUint32(b []byte, v uint32) []byte {
	return append(b, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}

// appendFrame appends a frame header (RFC 9113 section 4.1).
func appendFrame(b []byte, length int, kind http2.FrameType, flags http2.Flags, id uint32) []byte {
	b = append(b, byte(length>>16), byte(length>>8), byte(length), byte(kind), byte(flags))
	return appendUint32(b, id)
}

func appendWindowUpdate(b []byte, id uint32, n int64) []byte {
	return appendUint32(appendFrame(b, 4, http2.FrameWindowUpdate, 0, id), uint32(n))
}

// appendResetLocked ends a stream early from our side.
func (c *Conn) appendResetLocked(id uint32, code http2.ErrCode) {
	c.closed.addReset(id)
	c.wbuf = appendUint32(appendFrame(c.wbuf, 4, http2.FrameRSTStream, 0, id), uint32(code))
	c.checkBacklogLocked()
}

// appendGoAwayLocked says that streams after last are not looked at. A later GOAWAY cannot name more than an earlier one.
func (c *Conn) appendGoAwayLocked(last uint32, code http2.ErrCode, reason string) {
	reason = reason[:min(len(reason), 200)]
	c.awayLast = min(last, c.awayLast)
	c.wbuf = appendFrame(c.wbuf, 8+len(reason), http2.FrameGoAway, 0, 0)
	c.wbuf = appendUint32(appendUint32(c.wbuf, c.awayLast), uint32(code))
	c.wbuf = append(c.wbuf, reason...)
}

// lastPeerStreamLocked is the highest stream that the peer opened. Endpoints open none.
func (c *Conn) lastPeerStreamLocked() uint32 {
	if c.client {
		return 0
	}
	return c.lastID
}

// appendHeadersLocked encodes a header block into HEADERS and CONTINUATION frames.
func (c *Conn) appendHeadersLocked(id uint32, fields []hpack.HeaderField, end bool) {
	c.block.Reset()
	for i := range fields {
		_ = c.enc.WriteField(fields[i]) // writes to memory
	}
	block := c.block.Bytes()
	kind := http2.FrameHeaders
	var flags http2.Flags
	if end {
		flags = http2.FlagHeadersEndStream
	}
	for {
		n := min(len(block), c.maxFrame)
		if n == len(block) {
			flags |= http2.FlagHeadersEndHeaders
		}
		c.wbuf = append(appendFrame(c.wbuf, n, kind, flags, id), block[:n]...)
		if block = block[n:]; len(block) == 0 {
			c.checkBacklogLocked()
			return
		}
		kind, flags = http2.FrameContinuation, 0
	}
}

// kick wakes the writer.
func (c *Conn) kick() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// grant is room to give back to where data came from.
type grant struct {
	to *Stream
	n  int
}

// checkBacklogLocked notes that a lot waits to be written. It is called after something was added.
func (c *Conn) checkBacklogLocked() {
	if len(c.wbuf) > backlogLimit && !c.clogged.Load() {
		c.cloggedAt = time.Now()
		c.clogged.Store(true)
	}
}

// unclogLocked lets the reader go on, now that what waited is being written.
func (c *Conn) unclogLocked() {
	if !c.clogged.Load() {
		return
	}
	c.clogged.Store(false)
	select {
	case c.roomy <- struct{}{}:
	default:
	}
}

// close closes the connection, once what the peer sent after an error was read.
func (c *Conn) close() {
	c.mu.Lock()
	linger := c.linger
	c.mu.Unlock()
	if linger != nil {
		<-linger // has a deadline
	}
	_ = c.conn.Close()
}

// WriteLoop writes what gathers until the connection is over, and closes it.
func (c *Conn) WriteLoop() {
	defer c.close()
	var grants []grant
	for {
		c.mu.Lock()
		grants = c.pumpLocked(grants[:0])
		buf := c.wbuf
		over := c.hangUp
		if len(buf) > 0 {
			c.wbuf, c.onWire = c.spare[:0], c.lastID
			c.unclogLocked()
		} else if len(c.streams) == 0 && cap(c.spare)+cap(c.wbuf) > readBuffer {
			c.spare, c.wbuf = nil, nil
		}
		c.mu.Unlock()

		// Without the lock: the data may have come by another connection, whose lock this takes.
		for _, g := range grants {
			g.to.Credit(g.n)
		}
		if len(buf) == 0 {
			if over {
				return
			}
			<-c.wake
			continue
		}

		if _, err := c.conn.Write(buf); err != nil {
			_ = c.conn.Close() // wakes the reader, which ends the streams
			c.fail(err)
			return
		}
		if cap(buf) > gatherLimit { // grown by a burst: not worth keeping
			buf = nil
		}
		c.spare = buf
	}
}

// pumpLocked moves data that waited into wbuf, one frame per stream in turn.
func (c *Conn) pumpLocked(grants []grant) []grant {
	for len(c.queued) > 0 && len(c.wbuf) < gatherLimit {
		s := c.queued[0]
		c.queued[0] = nil
		c.queued = c.queued[1:]
		s.inQueue = false
		if s.gone || s.localEnded {
			continue
		}

		n := c.roomLocked(s, len(s.out))
		if n > 0 {
			grants = s.grantForLocked(grants, n)
		}
		if n == 0 && len(s.out) > 0 {
			if c.window <= 0 { // every stream waits for the connection
				if c.starved.IsZero() {
					c.starved = time.Now()
				}
				s.inQueue = true
				c.queued = append([]*Stream{s}, c.queued...)
				break
			}
			continue // comes back with its WINDOW_UPDATE
		}

		p := s.out[:n]
		s.out = s.out[n:]
		s.emitLocked(p, s.outEnd && len(s.out) == 0)
		if len(s.out) > 0 {
			c.enqueueLocked(s)
			continue
		}
		s.out = nil
		s.signalLocked()
	}
	if len(c.queued) == 0 {
		c.queued = nil
	}
	return grants
}

// roomLocked returns how much of n bytes the stream may send now in one frame.
func (c *Conn) roomLocked(s *Stream, n int) int {
	return int(max(0, min(int64(n), int64(c.maxFrame), c.window, s.window)))
}

// enqueueLocked lets the writer look at a stream with data.
func (c *Conn) enqueueLocked(s *Stream) {
	if s.inQueue || s.gone || s.localEnded || len(s.out) == 0 && !s.outEnd {
		return
	}
	s.inQueue = true
	c.queued = append(c.queued, s)
}
