package httpproxy

import (
	"errors"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2stream is one stream of an h2conn, whose lock guards it.
type h2stream struct {
	c    *h2conn
	id   uint32
	sink h2sink // set before the first event
	// source is the stream whose data is sent here; it gets its room back as the data moves on.
	source *h2stream

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

// newStream is called with the lock held.
func (c *h2conn) newStream(id uint32) *h2stream {
	s := &h2stream{c: c, id: id, window: c.initial, size: h2BaseWindow, unread: h2BaseWindow, declared: -1}
	c.streams[id] = s
	return s
}

var errNoStreams = errors.New("the connection takes no more streams")

// open starts a stream of ours. source gets no room back for the first free bytes that are sent.
func (c *h2conn) open(fields []hpack.HeaderField, end bool, sink h2sink, source *h2stream, free int) (*h2stream, error) {
	c.mu.Lock()
	if !c.openable() {
		c.mu.Unlock()
		return nil, errNoStreams
	}
	if c.lastID == 0 {
		c.lastID = 1
	} else {
		c.lastID += 2
	}
	c.chatter.earn(earnStream)
	s := c.newStream(c.lastID)
	s.sink, s.source, s.free = sink, source, free
	s.localHead = true
	s.localEnded = end
	c.appendHeaders(s.id, fields, end)
	c.mu.Unlock()
	c.kick()
	return s, nil
}

// openable is called with the lock held.
func (c *h2conn) openable() bool {
	limit := min(c.peerLimit, h2MaxStreams)
	if c.ownLimit > 0 {
		limit = min(limit, c.ownLimit)
	}
	if c.total > 0 && (c.lastID+1)/2 >= c.total {
		c.away = true
		c.hangUpIfEmpty()
		c.kick()
	}
	if !c.starved.IsZero() && time.Since(c.starved) > starvedLimit {
		return false
	}
	return !c.away && c.err == nil && !c.clogged.Load() && len(c.streams) < int(limit) && c.lastID <= 1<<30
}

// load returns how many streams are open, and whether there can be more.
func (c *h2conn) load() (n int, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.streams), c.openable()
}

// sendHeaders sends a head; end also ends the stream.
func (s *h2stream) sendHeaders(fields []hpack.HeaderField, end bool) {
	c := s.c
	c.mu.Lock()
	if s.gone || s.localEnded {
		c.mu.Unlock()
		return
	}
	s.localHead = true
	c.appendHeaders(s.id, fields, end)
	if end {
		s.endLocal()
	}
	c.mu.Unlock()
	c.kick()
}

// sendTrailers ends the stream with trailers, after the data that waits.
func (s *h2stream) sendTrailers(fields []hpack.HeaderField) {
	c := s.c
	c.mu.Lock()
	if len(s.out) > 0 && !s.gone {
		s.trailers = append([]hpack.HeaderField{}, fields...)
		s.outEnd = true
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	s.sendHeaders(fields, true)
}

// send sends a piece of the body, or keeps it until there is room. It returns for how many bytes source is to get
// room back now; for the others it does later.
func (s *h2stream) send(p []byte, end bool) (moved int) {
	c := s.c
	c.mu.Lock()
	if s.gone || s.localEnded || s.outEnd {
		c.mu.Unlock()
		return len(p)
	}
	for len(s.out) == 0 && len(c.wbuf) < h2Gather && (len(p) > 0 || end) {
		n := c.room(s, len(p))
		if n == 0 && len(p) > 0 {
			break
		}
		last := n == len(p)
		s.emit(p[:n], end && last)
		p = p[n:]
		free := min(n, s.free)
		s.free -= free
		moved += n - free
		if last {
			end = false
		}
	}
	if len(p) > 0 || end {
		s.out = append(s.out, p...)
		s.outEnd = end
		c.enqueue(s)
	}
	c.mu.Unlock()
	c.kick()
	return moved
}

// emit appends one DATA frame; with end the stream ends, by its trailers if it has any. It is called with the
// lock held and within the room there is.
func (s *h2stream) emit(p []byte, end bool) {
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
		c.appendHeaders(s.id, s.trailers, true)
	}
	s.endLocal()
}

// endLocal is called with the lock held when the end of the stream was sent. A server that has answered needs no
// more of the request (RFC 9113 section 8.1).
func (s *h2stream) endLocal() {
	s.localEnded = true
	switch {
	case s.malformed:
		s.c.appendReset(s.id, http2.ErrCodeProtocol)
		s.c.remove(s)
	case s.remoteEnded:
		s.c.resets.earn(earnFinished)
		s.c.remove(s)
	case !s.c.client:
		s.c.resets.earn(earnFinished)
		s.c.appendReset(s.id, http2.ErrCodeNo)
		s.c.remove(s)
	}
}

// endRemote is called with the lock held when the peer ended the stream.
func (s *h2stream) endRemote() {
	s.remoteEnded = true
	if s.localEnded {
		s.c.remove(s)
	}
}

// remove forgets a stream. It is called with the lock held; settle must be called with the result without it.
func (c *h2conn) remove(s *h2stream) (lost int) {
	if s.gone {
		return 0
	}
	s.gone = true
	delete(c.streams, s.id)
	c.intake.extra -= s.size - h2BaseWindow
	lost = max(0, len(s.out)-s.free)
	s.out = nil
	s.signal()
	if len(c.streams) == 0 {
		c.idleSince = time.Now()
		c.hangUpIfEmpty()
	}
	return lost
}

// settle gives room back for data that was dropped.
func (s *h2stream) settle(lost int) {
	if lost == 0 {
		return
	}
	s.c.mu.Lock()
	from := s.source
	s.c.mu.Unlock()
	if from != nil {
		from.credit(lost)
	}
}

// reset ends the stream early from our side; the sink is not told.
func (s *h2stream) reset(code http2.ErrCode) {
	c := s.c
	c.mu.Lock()
	if s.gone {
		c.mu.Unlock()
		return
	}
	lost := c.remove(s)
	c.appendReset(s.id, code)
	c.mu.Unlock()
	c.kick()
	s.settle(lost)
}

// grantFor notes that source may have n bytes of room back.
func (s *h2stream) grantFor(grants []grant, n int) []grant {
	free := min(n, s.free)
	s.free -= free
	if n > free && s.source != nil {
		grants = append(grants, grant{s.source, n - free})
	}
	return grants
}

// checkLength refuses a body that differs from its Content-Length: an HTTP/1 hop behind us would find the end of
// the message elsewhere (RFC 9113 section 8.1.1). It is called with the lock held.
func (s *h2stream) checkLength(end bool) error {
	if s.declared < 0 || s.received < s.declared && !end || s.received == s.declared {
		return nil
	}
	return streamFault(s.id, http2.ErrCodeProtocol, "a body is not as long as its Content-Length says")
}

// malform notes that the request is malformed: the answer is the last thing that is sent.
func (s *h2stream) malform() {
	s.c.mu.Lock()
	s.malformed = true
	s.c.mu.Unlock()
}

// declare notes the Content-Length of what the peer sends.
func (s *h2stream) declare(n int64) {
	s.c.mu.Lock()
	s.declared = n
	s.c.mu.Unlock()
}

// signal wakes who waits for out to become empty. It is called with the lock held.
func (s *h2stream) signal() {
	if s.drained != nil {
		close(s.drained)
		s.drained = nil
	}
}

// wait blocks until everything that was sent has moved on, and reports whether the stream lives.
func (s *h2stream) wait() bool {
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

// setSource names the stream whose data is sent here.
func (s *h2stream) setSource(from *h2stream) {
	s.c.mu.Lock()
	s.source = from
	s.c.mu.Unlock()
}
