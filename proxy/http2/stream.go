package http2

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Stream is one stream of a Conn, whose lock guards it.
type Stream struct {
	c    *Conn
	id   uint32
	sink Sink // set before the first event
	// begun is when the peer opened it; zero for a stream of ours.
	begun time.Time
	// source is the stream whose data is sent here; it gets its room back as the data moves on.
	source *Stream

	window      int64 // what the peer lets us send
	size        int64 // the window that we give the peer: unread, debt, and what came and did not move on
	unread      int64 // what the peer may still send
	debt        int64 // room that was not given back yet
	received    int64 // body bytes
	declared    int64 // Content-Length of what the peer sends, -1 when not given
	headersSeen bool  // the head came: of a response, the final one
	remoteEnded bool
	interim     int  // responses before the final one
	localHead   bool // a head was sent
	localEnded  bool
	gone        bool
	malformed   bool  // the request is: the stream ends in an error once it is answered (RFC 9113 section 8.1.1)
	fault       error // what the peer did wrong on it

	out      []byte // data that waits for room
	free     int    // how much of it, from the front, source gets no room for
	outEnd   bool   // the stream ends after it
	trailers []hpack.HeaderField
	inQueue  bool
	// drained is closed when out becomes empty or the stream is gone; nil unless somebody waits.
	drained chan struct{}
}

// newStreamLocked adds a stream, whose sink the caller sets.
func (c *Conn) newStreamLocked(id uint32) *Stream {
	s := &Stream{c: c, id: id, window: c.initial, size: BaseWindow, unread: BaseWindow, declared: -1}
	c.streams[id] = s
	return s
}

var ErrNoStreams = errors.New("the connection takes no more streams")

// Open starts a stream of ours. source gets no room back for the first free bytes that are sent. The sink may be called
// before Open has returned. The error is ErrNoStreams.
func (c *Conn) Open(fields []hpack.HeaderField, end bool, sink Sink, source *Stream, free int) (*Stream, error) {
	c.mu.Lock()
	if !c.openableLocked() {
		c.mu.Unlock()
		return nil, ErrNoStreams
	}

	if c.lastID == 0 {
		c.lastID = 1
	} else {
		c.lastID += 2
	}
	c.chatter.earn(earnStream)

	s := c.newStreamLocked(c.lastID)
	s.sink, s.source, s.free = sink, source, free
	s.localHead = true
	s.localEnded = end
	c.appendHeadersLocked(s.id, fields, end)
	c.mu.Unlock()
	c.kick()
	return s, nil
}

// openableLocked reports whether there can be one more stream of ours.
func (c *Conn) openableLocked() bool {
	limit := min(c.peerLimit, maxStreams)
	if c.ownLimit > 0 {
		limit = min(limit, c.ownLimit)
	}
	if c.total > 0 && (c.lastID+1)/2 >= c.total {
		c.away = true
		c.hangUpIfEmptyLocked()
		c.kick()
	}
	if !c.starved.IsZero() && time.Since(c.starved) > starvedLimit {
		return false
	}
	return !c.away && c.err == nil && !c.clogged.Load() && len(c.streams) < int(limit) && c.lastID <= 1<<30
}

// Load returns how many streams are open, and whether there can be more.
func (c *Conn) Load() (n int, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.streams), c.openableLocked()
}

// SendHeaders sends a head; end also ends the stream.
func (s *Stream) SendHeaders(fields []hpack.HeaderField, end bool) {
	c := s.c
	c.mu.Lock()
	if s.gone || s.localEnded {
		c.mu.Unlock()
		return
	}
	s.localHead = true
	c.appendHeadersLocked(s.id, fields, end)
	if end {
		s.endLocalLocked()
	}
	c.mu.Unlock()
	c.kick()
}

// SendTrailers ends the stream with trailers, after the data that waits.
func (s *Stream) SendTrailers(fields []hpack.HeaderField) {
	c := s.c
	c.mu.Lock()
	if len(s.out) > 0 && !s.gone {
		s.trailers = append([]hpack.HeaderField{}, fields...)
		s.outEnd = true
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	s.SendHeaders(fields, true)
}

// Send sends a piece of the body, or keeps it until there is room. It returns for how many bytes source is to get
// room back now; for the others it does later.
func (s *Stream) Send(p []byte, end bool) (moved int) {
	c := s.c
	c.mu.Lock()
	if s.gone || s.localEnded || s.outEnd {
		c.mu.Unlock()
		return len(p)
	}

	for len(s.out) == 0 && len(c.wbuf) < gatherLimit && (len(p) > 0 || end) {
		n := c.roomLocked(s, len(p))
		if n == 0 && len(p) > 0 {
			break
		}
		last := n == len(p)
		s.emitLocked(p[:n], end && last)
		p = p[n:]
		free := min(n, s.free)
		s.free -= free
		moved += n - free
		if last {
			end = false
		}
	}

	if len(p) > 0 || end { // the rest waits for room
		s.out = append(s.out, p...)
		s.outEnd = end
		c.enqueueLocked(s)
	}
	c.mu.Unlock()
	c.kick()
	return moved
}

// emitLocked appends one DATA frame; with end the stream ends, by its trailers if it has any. It must
// fit into the room that there is.
func (s *Stream) emitLocked(p []byte, end bool) {
	c := s.c
	var flags http2.Flags
	if end && s.trailers == nil {
		flags = http2.FlagDataEndStream
	}
	if len(p) > 0 || flags != 0 {
		c.wbuf = append(appendFrame(c.wbuf, len(p), http2.FrameData, flags, s.id), p...)
		s.window -= int64(len(p))
		c.window -= int64(len(p))
		c.chatter.earn(earnSent)
	}
	if !end {
		return
	}
	if s.trailers != nil {
		c.appendHeadersLocked(s.id, s.trailers, true)
	}
	s.endLocalLocked()
}

// endLocalLocked is called when the end of the stream was sent. A server that has answered needs no more of the request
// (RFC 9113 section 8.1).
func (s *Stream) endLocalLocked() {
	s.localEnded = true
	switch {
	case s.malformed:
		s.c.appendResetLocked(s.id, http2.ErrCodeProtocol)
		s.c.removeLocked(s)
	case s.remoteEnded:
		s.c.resets.earn(earnFinished)
		s.c.removeLocked(s)
	case !s.c.client:
		s.c.resets.earn(earnFinished)
		s.c.appendResetLocked(s.id, http2.ErrCodeNo)
		s.c.removeLocked(s)
	}
}

// endRemoteLocked is called when the peer ended the stream.
func (s *Stream) endRemoteLocked() {
	s.remoteEnded = true
	if s.localEnded {
		s.c.removeLocked(s)
	}
}

// removeLocked forgets a stream. settle must be called with the result, without the lock.
func (c *Conn) removeLocked(s *Stream) (lost int) {
	if s.gone {
		return 0
	}
	s.gone = true
	delete(c.streams, s.id)
	c.intake.extra -= s.size - BaseWindow
	lost = max(0, len(s.out)-s.free)
	s.out = nil
	s.signalLocked()
	if len(c.streams) == 0 {
		c.idleSince = time.Now()
		c.hangUpIfEmptyLocked()
	}
	return lost
}

// settle gives room back for data that was dropped. It takes the lock of the connection that the data came by: the
// caller must hold none.
func (s *Stream) settle(lost int) {
	if lost == 0 {
		return
	}
	s.c.mu.Lock()
	from := s.source
	s.c.mu.Unlock()
	if from != nil {
		from.Credit(lost)
	}
}

// Reset ends the stream early from our side; the sink is not told.
func (s *Stream) Reset(code http2.ErrCode) {
	c := s.c
	c.mu.Lock()
	if s.gone {
		c.mu.Unlock()
		return
	}
	lost := c.removeLocked(s)
	c.appendResetLocked(s.id, code)
	c.mu.Unlock()
	c.kick()
	s.settle(lost)
}

// Cause says why a stream was reset.
func (s *Stream) Cause(code http2.ErrCode) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.fault != nil {
		return s.fault
	}
	if c.err == nil {
		return fmt.Errorf("the stream was reset: %s", code)
	}
	return fmt.Errorf("HTTP/2 connection: %w", c.err)
}

// grantForLocked notes that source may have n bytes of room back.
func (s *Stream) grantForLocked(grants []grant, n int) []grant {
	free := min(n, s.free)
	s.free -= free
	if n > free && s.source != nil {
		grants = append(grants, grant{s.source, n - free})
	}
	return grants
}

// checkLengthLocked refuses a body that differs from its Content-Length: an HTTP/1 hop behind us would find the end of
// the message elsewhere (RFC 9113 section 8.1.1).
func (s *Stream) checkLengthLocked(end bool) error {
	if s.declared < 0 || s.received < s.declared && !end || s.received == s.declared {
		return nil
	}
	return streamFault(s.id, http2.ErrCodeProtocol, "a body is not as long as its Content-Length says")
}

// MarkMalformed notes that the request is malformed: the answer is the last thing that is sent.
func (s *Stream) MarkMalformed() {
	s.c.mu.Lock()
	s.malformed = true
	s.c.mu.Unlock()
}

// DeclareLength notes the Content-Length of what the peer sends.
func (s *Stream) DeclareLength(n int64) {
	s.c.mu.Lock()
	s.declared = n
	s.c.mu.Unlock()
}

// signalLocked wakes who waits for out to become empty.
func (s *Stream) signalLocked() {
	if s.drained != nil {
		close(s.drained)
		s.drained = nil
	}
}

// Wait blocks until everything that was sent has moved on, and reports whether the stream lives.
func (s *Stream) Wait() bool {
	c := s.c
	c.mu.Lock()
	if len(s.out) == 0 || s.gone {
		defer c.mu.Unlock()
		return !s.gone || s.localEnded
	}
	if s.drained == nil {
		s.drained = make(chan struct{})
	}
	ch := s.drained
	c.mu.Unlock()
	<-ch
	c.mu.Lock()
	defer c.mu.Unlock()
	return !s.gone || s.localEnded
}

// SetSource names the stream whose data is sent here.
func (s *Stream) SetSource(from *Stream) {
	s.c.mu.Lock()
	s.source = from
	s.c.mu.Unlock()
}

// Began returns when the peer opened the stream.
func (s *Stream) Began() time.Time { return s.begun }
