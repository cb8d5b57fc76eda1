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
	if s == nil && !c.client && h.id%2 == 1 && h.id > c.lastID {
		s, err := c.openedByPeerLocked(h)
		c.mu.Unlock()
		if s != nil {
			c.accept(s.sink, h)
		}
		return err
	}
	if s == nil {
		err := c.headOfNoStreamLocked(h)
		c.mu.Unlock()
		return err
	}

	err := s.takeHeadLocked(h)
	if err == nil && h.End {
		s.endRemoteLocked()
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	s.sink.Headers(h.Fields, h.End)
	return nil
}

// headOfNoStreamLocked judges a header block on a stream that is not there (RFC 9113 sections 5.1 and
// 5.1.1).
func (c *Conn) headOfNoStreamLocked(h *Head) error {
	was, maybe := c.closed.wasReset(h.id)
	switch {
	case h.id%2 == 0 || h.id > c.lastID || c.closed.inGap(h.id):
		return connectionFault(http2.ErrCodeProtocol, "HEADERS on stream %d, which cannot be opened", h.id)
	case was: // the peer did not know yet
		return c.chargeLocked(1)
	case maybe:
		return http2.StreamError{StreamID: h.id, Code: http2.ErrCodeStreamClosed}
	}
	return connectionFault(http2.ErrCodeStreamClosed, "HEADERS on stream %d, which the sender has ended", h.id)
}

// takeHeadLocked checks a header block on a stream that is open.
func (s *Stream) takeHeadLocked(h *Head) error {
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
	return s.checkLengthLocked(h.End)
}

// openedByPeerLocked makes the stream for a request, or none where that is refused or comes too late.
func (c *Conn) openedByPeerLocked(h *Head) (*Stream, error) {
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
		return nil, nil
	case h.invalid != nil:
		err = streamFault(h.id, http2.ErrCodeProtocol, "%v", h.invalid)
	case len(c.streams) >= c.limit:
		err = http2.StreamError{StreamID: h.id, Code: http2.ErrCodeRefusedStream}
	case h.TooLarge:
		err = c.chargeLocked(costLargeHead)
	}
	if err != nil {
		return nil, err
	}

	c.chatter.earn(earnStream)
	s := c.newStreamLocked(h.id)
	s.headersSeen = true
	s.remoteEnded = h.End
	s.begun = time.Now()
	s.sink = c.newSink(s)
	return s, nil
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
		err = c.dataOfNoStreamLocked(f.StreamID, len(data))
	} else {
		err = s.takeDataLocked(n, len(data), ended)
	}
	if s == nil || err != nil {
		c.creditConnLocked(n)
	} else {
		c.holdLocked(n)
		if ended {
			s.endRemoteLocked()
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
	s.Credit(int(n) - len(data)) // padding goes nowhere: its room comes back at once
	s.sink.Data(data, ended)
	return nil
}

// dataOfNoStreamLocked judges data on a stream that is not there (RFC 9113 section 5.1).
func (c *Conn) dataOfNoStreamLocked(id uint32, n int) error {
	was, _ := c.closed.wasReset(id)
	switch {
	case id%2 == 0 || id > c.lastID:
		return connectionFault(http2.ErrCodeProtocol, "DATA on stream %d, which was not opened", id)
	case was && n > 0: // was under way; no more than the window of the stream can be
		return nil
	case was:
		return c.chargeLocked(1)
	}
	return http2.StreamError{StreamID: id, Code: http2.ErrCodeStreamClosed}
}

// takeDataLocked checks data on a stream that is open: length bytes of flow control, of which n are no padding.
func (s *Stream) takeDataLocked(length int64, n int, end bool) error {
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
		if err := s.c.chargeLocked(1); err != nil {
			return err
		}
	}
	return s.checkLengthLocked(end)
}

func (c *Conn) onReset(f *http2.RSTStreamFrame) error {
	c.mu.Lock()
	s := c.streams[f.StreamID]
	if s == nil {
		defer c.mu.Unlock()
		if c.isIdleLocked(f.StreamID) {
			return connectionFault(http2.ErrCodeProtocol, "RST_STREAM of stream %d, which was not opened", f.StreamID)
		}
		return c.chargeLocked(1)
	}

	if !c.client && !s.localHead && time.Since(s.begun) < prematureReset {
		// Streams opened and taken back at once are cheap to the peer and dear to us.
		if err := c.chargeResetLocked(); err != nil {
			c.mu.Unlock()
			return err
		}
	}

	lost := c.removeLocked(s)
	c.mu.Unlock()
	s.settle(lost)
	s.sink.Reset(f.ErrCode, f.ErrCode == http2.ErrCodeRefusedStream)
	return nil
}

// isIdleLocked reports whether a stream was never opened.
func (c *Conn) isIdleLocked(id uint32) bool { return id > c.lastID || id%2 == 0 }

// streamError resets one stream for what the peer did on it.
func (c *Conn) streamError(e http2.StreamError) error {
	c.mu.Lock()
	s := c.streams[e.StreamID]
	if s == nil {
		defer c.kick()
		defer c.mu.Unlock()
		if c.isIdleLocked(e.StreamID) {
			return connectionFault(http2.ErrCodeProtocol, "a frame on stream %d, which was not opened", e.StreamID)
		}
		c.appendResetLocked(e.StreamID, e.Code)
		if err := c.chargeLocked(costNoStream); err != nil {
			return err
		}
		return c.checkFloodLocked()
	}

	if err := c.chargeResetLocked(); err != nil {
		c.mu.Unlock()
		return err
	}
	s.fault = e.Cause
	lost := c.removeLocked(s)
	c.appendResetLocked(e.StreamID, e.Code)
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
	if err := c.chargeLocked(1); err != nil {
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
		if c.isIdleLocked(f.StreamID) {
			return connectionFault(http2.ErrCodeProtocol, "WINDOW_UPDATE of stream %d, which was not opened", f.StreamID)
		}
		return nil
	}
	if s.window += int64(f.Increment); s.window > math.MaxInt32 {
		return streamFault(s.id, http2.ErrCodeFlowControl, "the window of the stream grew beyond 2^31-1")
	}
	c.enqueueLocked(s)
	return nil
}

func (c *Conn) onSettings(f *http2.SettingsFrame) error {
	c.mu.Lock()
	defer c.kick()
	defer c.mu.Unlock()
	if f.IsAck() {
		c.acked = true
		return c.chargeLocked(1)
	}
	if f.NumSettings() > MaxSettings {
		return connectionFault(http2.ErrCodeEnhanceYourCalm, "a SETTINGS frame has more than %d entries", MaxSettings)
	}
	if err := c.chargeLocked(costSettings); err != nil {
		return err
	}

	initial := c.initial
	err := f.ForeachSetting(func(s http2.Setting) error {
		if s.ID == http2.SettingInitialWindowSize {
			initial = int64(s.Val) // walks all streams: only the last one counts
		}
		return c.applySettingLocked(s)
	})
	if err == nil {
		err = c.applyInitialWindowLocked(initial)
	}
	if err != nil {
		return err
	}

	c.wbuf = appendFrame(c.wbuf, 0, http2.FrameSettings, http2.FlagSettingsAck, 0)
	return c.checkFloodLocked()
}

// applySettingLocked applies one setting but for the initial window.
func (c *Conn) applySettingLocked(s http2.Setting) error {
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

// applyInitialWindowLocked changes the windows of the streams that are open, too (RFC 9113 section 6.9.2).
func (c *Conn) applyInitialWindowLocked(n int64) error {
	delta := n - c.initial
	if delta == 0 {
		return nil
	}
	c.initial = n
	for _, s := range c.streams {
		if s.window += delta; s.window > math.MaxInt32 {
			return connectionFault(http2.ErrCodeFlowControl, "the window of a stream grew beyond 2^31-1")
		}
		c.enqueueLocked(s)
	}
	return nil
}

func (c *Conn) onPing(f *http2.PingFrame) error {
	c.mu.Lock()
	defer c.kick()
	defer c.mu.Unlock()
	if err := c.chargeLocked(1); err != nil || f.IsAck() {
		return err
	}
	c.wbuf = appendFrame(c.wbuf, 8, http2.FramePing, http2.FlagPingAck, 0)
	c.wbuf = append(c.wbuf, f.Data[:]...)
	return c.checkFloodLocked()
}

// checkFloodLocked looks at what piles up because the peer does not take it.
func (c *Conn) checkFloodLocked() error {
	c.checkBacklogLocked()
	if c.client && len(c.wbuf) > controlLimit {
		return connectionFault(http2.ErrCodeEnhanceYourCalm, "more is asked for than is taken")
	}
	return nil
}

// onGoAway takes no more streams; those that the peer did not look at are handed back as refused.
func (c *Conn) onGoAway(f *http2.GoAwayFrame) error {
	c.mu.Lock()
	if err := c.chargeLocked(1); err != nil {
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
	// Sinks are told without the lock: they take their own, which stands above it.
	lost := make([]int, len(refused))
	for i, s := range refused {
		lost[i] = c.removeLocked(s)
		c.closed.addReset(s.id)
	}
	c.hangUpIfEmptyLocked()
	c.mu.Unlock()

	c.kick()
	for i, s := range refused {
		s.settle(lost[i])
		s.sink.Reset(http2.ErrCodeRefusedStream, true)
	}
	return nil
}
