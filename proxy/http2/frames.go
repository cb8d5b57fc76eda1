package http2

import (
	"math"
	"time"

	"golang.org/x/net/http2"
)

// The on methods take frames as they come, in the goroutine that reads the connection.

// onHead takes a decoded header block.
func (c *Conn) onHead(h *Head) error {
	c.mu.Lock()
	s := c.streams[h.id]
	if c.client && h.id > c.onWire { // it answers what was not asked yet
		c.mu.Unlock()
		return connectionFault(http2.ErrCodeProtocol, "HEADERS on stream %d, on which nothing was asked yet", h.id)
	}
	if s == nil {
		if !c.client && h.id%2 == 1 && h.id > c.lastID {
			return c.openedByPeer(h) // unlocks
		}
		err := c.headOfNoStream(h)
		c.mu.Unlock()
		return err
	}
	err := s.takeHead(h)
	if err == nil && h.End {
		s.endRemote()
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	s.sink.Headers(h.Fields, h.End)
	return nil
}

// headOfNoStream judges a header block on a stream that is not there (RFC 9113 sections 5.1 and 5.1.1). It is called
// with the lock held.
func (c *Conn) headOfNoStream(h *Head) error {
	was, maybe := c.closed.wasReset(h.id)
	switch {
	case h.id%2 == 0 || h.id > c.lastID || c.closed.inGap(h.id):
		return connectionFault(http2.ErrCodeProtocol, "HEADERS on stream %d, which cannot be opened", h.id)
	case was: // the peer did not know yet
		return c.charge(1)
	case maybe:
		return http2.StreamError{StreamID: h.id, Code: http2.ErrCodeStreamClosed}
	}
	return connectionFault(http2.ErrCodeStreamClosed, "HEADERS on stream %d, which the sender has ended", h.id)
}

// takeHead checks a header block on a stream that is open. It is called with the lock held.
func (s *Stream) takeHead(h *Head) error {
	c := s.c
	switch {
	case s.remoteEnded:
		return streamFault(s.id, http2.ErrCodeStreamClosed, "a header block came behind the end")
	case h.invalid != nil:
		return streamFault(s.id, http2.ErrCodeProtocol, "%v", h.invalid)
	case h.TooLarge:
		return streamFault(s.id, http2.ErrCodeEnhanceYourCalm, "a header block is larger than %d bytes", c.blocks.limit)
	case s.headersSeen && (!h.End || h.pseudo()): // RFC 9113 section 8.1
		return streamFault(s.id, http2.ErrCodeProtocol, "trailers have pseudo fields, or something follows them")
	case !s.headersSeen && h.interim() && !h.End:
		if s.interim++; s.interim > maxInterim {
			return streamFault(s.id, http2.ErrCodeEnhanceYourCalm, "more than %d interim responses came", maxInterim)
		}
		return nil
	}
	s.headersSeen = true
	return s.checkLength(h.End)
}

// openedByPeer makes the stream for a request. It is called with the lock held and gives it up.
func (c *Conn) openedByPeer(h *Head) error {
	next := uint32(1)
	if c.lastID > 0 {
		next = c.lastID + 2
	}
	if h.id > next { // those between are closed by that (RFC 9113 section 5.1.1)
		c.closed.addGap(next, h.id-2)
	}
	c.lastID = h.id
	var err error
	switch {
	case c.hangUp || h.id > c.awayLast: // RFC 9113 section 6.8
		c.closed.addReset(h.id)
		c.mu.Unlock()
		return nil
	case h.invalid != nil:
		err = streamFault(h.id, http2.ErrCodeProtocol, "%v", h.invalid)
	case len(c.streams) >= c.limit:
		err = http2.StreamError{StreamID: h.id, Code: http2.ErrCodeRefusedStream}
	case h.TooLarge:
		err = c.charge(costLargeHead)
	}
	if err != nil {
		c.mu.Unlock()
		return err
	}
	c.chatter.earn(earnStream)
	s := c.newStream(h.id)
	s.headersSeen = true
	s.remoteEnded = h.End
	s.begun = time.Now()
	s.sink = c.newSink(s)
	c.mu.Unlock()
	c.accept(s.sink, h)
	return nil
}

func (c *Conn) onData(f *http2.DataFrame) error {
	n := int64(f.Length)
	data, ended := f.Data(), f.StreamEnded()
	c.mu.Lock()
	if c.intake.unread -= n; c.intake.unread < 0 {
		c.mu.Unlock()
		return connectionFault(http2.ErrCodeFlowControl, "more data came than the connection's window lets through")
	}
	before := len(c.wbuf)
	s := c.streams[f.StreamID]
	var err error
	if s == nil {
		err = c.dataOfNoStream(f.StreamID, len(data))
	} else {
		err = s.takeData(n, len(data), ended)
	}
	if s == nil || err != nil {
		c.creditConn(n)
	} else {
		c.hold(n)
		if ended {
			s.endRemote()
		}
	}
	wrote := len(c.wbuf) > before
	c.mu.Unlock()
	if wrote {
		c.kick()
	}
	if s == nil || err != nil {
		return err
	}
	s.Credit(int(n) - len(data)) // padding
	s.sink.Data(data, ended)
	return nil
}

// dataOfNoStream judges data on a stream that is not there (RFC 9113 section 5.1). It is called with the lock held.
func (c *Conn) dataOfNoStream(id uint32, n int) error {
	was, _ := c.closed.wasReset(id)
	switch {
	case id%2 == 0 || id > c.lastID:
		return connectionFault(http2.ErrCodeProtocol, "DATA on stream %d, which was not opened", id)
	case was && n > 0: // was under way; no more than the window of the stream can be
		return nil
	case was:
		return c.charge(1)
	}
	return http2.StreamError{StreamID: id, Code: http2.ErrCodeStreamClosed}
}

// takeData checks data on a stream that is open: length bytes of flow control, of which n are no padding. It is
// called with the lock held.
func (s *Stream) takeData(length int64, n int, end bool) error {
	s.unread -= length
	s.received += int64(n)
	switch {
	case s.remoteEnded:
		return streamFault(s.id, http2.ErrCodeStreamClosed, "data came behind the end")
	case !s.headersSeen:
		return streamFault(s.id, http2.ErrCodeProtocol, "data came before the head")
	case s.unread < 0:
		return streamFault(s.id, http2.ErrCodeFlowControl, "more data came than the window of the stream lets through")
	case n > 0:
		s.c.chatter.earn(earnReceived)
	case !end:
		if err := s.c.charge(1); err != nil {
			return err
		}
	}
	return s.checkLength(end)
}

func (c *Conn) onReset(f *http2.RSTStreamFrame) error {
	c.mu.Lock()
	s := c.streams[f.StreamID]
	if s == nil {
		defer c.mu.Unlock()
		if c.idle(f.StreamID) {
			return connectionFault(http2.ErrCodeProtocol, "RST_STREAM of stream %d, which was not opened", f.StreamID)
		}
		return c.charge(1)
	}
	if !c.client && !s.localHead && time.Since(s.begun) < prematureReset {
		// Streams opened and taken back at once are cheap to the peer and dear to us.
		if err := c.chargeReset(); err != nil {
			c.mu.Unlock()
			return err
		}
	}
	lost := c.remove(s)
	c.mu.Unlock()
	s.settle(lost)
	s.sink.Reset(f.ErrCode, f.ErrCode == http2.ErrCodeRefusedStream)
	return nil
}

// idle reports whether a stream was never opened. It is called with the lock held.
func (c *Conn) idle(id uint32) bool { return id > c.lastID || id%2 == 0 }

// streamError resets one stream for what the peer did on it.
func (c *Conn) streamError(e http2.StreamError) error {
	c.mu.Lock()
	s := c.streams[e.StreamID]
	if s == nil {
		defer c.kick()
		defer c.mu.Unlock()
		if c.idle(e.StreamID) {
			return connectionFault(http2.ErrCodeProtocol, "a frame on stream %d, which was not opened", e.StreamID)
		}
		c.appendReset(e.StreamID, e.Code)
		if err := c.charge(costNoStream); err != nil {
			return err
		}
		return c.checkFlood()
	}
	if err := c.chargeReset(); err != nil {
		c.mu.Unlock()
		return err
	}
	s.fault = e.Cause
	lost := c.remove(s)
	c.appendReset(e.StreamID, e.Code)
	c.mu.Unlock()
	c.kick()
	s.settle(lost)
	s.sink.Reset(e.Code, false)
	return nil
}

func (c *Conn) onWindowUpdate(f *http2.WindowUpdateFrame) error {
	c.mu.Lock()
	defer c.kick()
	defer c.mu.Unlock()
	if err := c.charge(1); err != nil {
		return err
	}
	if f.StreamID == 0 {
		if c.window += int64(f.Increment); c.window > math.MaxInt32 {
			return connectionFault(http2.ErrCodeFlowControl, "the window of the connection grew beyond 2^31-1")
		}
		c.starved = time.Time{}
		return nil
	}
	s := c.streams[f.StreamID]
	if s == nil {
		if c.idle(f.StreamID) {
			return connectionFault(http2.ErrCodeProtocol, "WINDOW_UPDATE of stream %d, which was not opened", f.StreamID)
		}
		return nil
	}
	if s.window += int64(f.Increment); s.window > math.MaxInt32 {
		return streamFault(s.id, http2.ErrCodeFlowControl, "the window of the stream grew beyond 2^31-1")
	}
	c.enqueue(s)
	return nil
}

func (c *Conn) onSettings(f *http2.SettingsFrame) error {
	c.mu.Lock()
	defer c.kick()
	defer c.mu.Unlock()
	if f.IsAck() {
		c.acked = true
		return c.charge(1)
	}
	if f.NumSettings() > MaxSettings {
		return connectionFault(http2.ErrCodeEnhanceYourCalm, "a SETTINGS frame has more than %d entries", MaxSettings)
	}
	if err := c.charge(costSettings); err != nil {
		return err
	}
	initial := c.initial
	err := f.ForeachSetting(func(s http2.Setting) error {
		if s.ID == http2.SettingInitialWindowSize {
			initial = int64(s.Val) // walks all streams: only the last one counts
		}
		return c.applySetting(s)
	})
	if err == nil {
		err = c.applyInitialWindow(initial)
	}
	if err != nil {
		return err
	}
	c.wbuf = appendFrame(c.wbuf, 0, http2.FrameSettings, http2.FlagSettingsAck, 0)
	return c.checkFlood()
}

// applySetting applies one setting but for the initial window.
func (c *Conn) applySetting(s http2.Setting) error {
	if err := s.Valid(); err != nil {
		return err
	}
	switch s.ID {
	case http2.SettingMaxFrameSize:
		c.maxFrame = int(min(s.Val, MaxFrame))
	case http2.SettingMaxConcurrentStreams:
		c.peerLimit = s.Val
	case http2.SettingHeaderTableSize:
		c.enc.SetMaxDynamicTableSizeLimit(min(s.Val, 4096))
	case http2.SettingEnablePush:
		if c.client && s.Val != 0 { // RFC 9113 section 6.5.2
			return connectionFault(http2.ErrCodeProtocol, "an endpoint enables push")
		}
	}
	return nil
}

// applyInitialWindow changes the windows of the streams that are open, too (RFC 9113 section 6.9.2).
func (c *Conn) applyInitialWindow(n int64) error {
	delta := n - c.initial
	if delta == 0 {
		return nil
	}
	c.initial = n
	for _, s := range c.streams {
		if s.window += delta; s.window > math.MaxInt32 {
			return connectionFault(http2.ErrCodeFlowControl, "the window of a stream grew beyond 2^31-1")
		}
		c.enqueue(s)
	}
	return nil
}

func (c *Conn) onPing(f *http2.PingFrame) error {
	c.mu.Lock()
	defer c.kick()
	defer c.mu.Unlock()
	if err := c.charge(1); err != nil || f.IsAck() {
		return err
	}
	c.wbuf = appendFrame(c.wbuf, 8, http2.FramePing, http2.FlagPingAck, 0)
	c.wbuf = append(c.wbuf, f.Data[:]...)
	return c.checkFlood()
}

// checkFlood looks at what piles up because the peer does not take it. It is called with the lock held.
func (c *Conn) checkFlood() error {
	c.checkBacklog()
	if c.client && len(c.wbuf) > controlLimit {
		return connectionFault(http2.ErrCodeEnhanceYourCalm, "more is asked for than is taken")
	}
	return nil
}

// onGoAway takes no more streams; those that the peer did not look at are handed back as refused.
func (c *Conn) onGoAway(f *http2.GoAwayFrame) error {
	c.mu.Lock()
	if err := c.charge(1); err != nil {
		c.mu.Unlock()
		return err
	}
	c.away = true
	var refused []*Stream
	if c.client {
		for id, s := range c.streams {
			if id > f.LastStreamID {
				refused = append(refused, s)
			}
		}
	}
	lost := make([]int, len(refused))
	for i, s := range refused {
		lost[i] = c.remove(s)
		c.closed.addReset(s.id)
	}
	c.hangUpIfEmpty()
	c.mu.Unlock()
	c.kick()
	for i, s := range refused {
		s.settle(lost[i])
		s.sink.Reset(http2.ErrCodeRefusedStream, true)
	}
	return nil
}
