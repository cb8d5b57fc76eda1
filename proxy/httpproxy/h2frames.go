package httpproxy

import (
	"math"
	"time"

	"golang.org/x/net/http2"
)

// The on methods take frames as they come, in the goroutine that reads the connection.

func (c *h2conn) onHeaders(f *http2.MetaHeadersFrame) error {
	id := f.StreamID
	c.mu.Lock()
	s := c.streams[id]
	if c.client && id > c.onWire { // it answers what was not asked yet
		c.mu.Unlock()
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	if s == nil {
		if c.client || id <= c.lastID { // late frames of a stream that is over
			c.mu.Unlock()
			if c.client && id > c.lastID || id%2 == 0 {
				return http2.ConnectionError(http2.ErrCodeProtocol)
			}
			return nil
		}
		return c.openedByPeer(f) // unlocks
	}
	if s.remoteEnded || s.headersSeen && !f.StreamEnded() && !c.client {
		c.mu.Unlock()
		return http2.StreamError{StreamID: id, Code: http2.ErrCodeProtocol}
	}
	if f.Truncated {
		c.mu.Unlock()
		return http2.StreamError{StreamID: id, Code: http2.ErrCodeProtocol}
	}
	s.headersSeen = true
	err := s.checkLength(f.StreamEnded())
	if err == nil && f.StreamEnded() {
		s.endRemote()
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	s.sink.headers(f.Fields, f.StreamEnded())
	return nil
}

// openedByPeer makes the stream for a request. It is called with the lock held and gives it up.
func (c *h2conn) openedByPeer(f *http2.MetaHeadersFrame) error {
	id := f.StreamID
	if id%2 == 0 {
		c.mu.Unlock()
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	c.lastID = id
	c.opened++
	if c.hangUp || c.awaySent && c.away { // beyond the last stream that GOAWAY named
		c.mu.Unlock()
		return nil
	}
	if len(c.streams) >= c.limit {
		c.mu.Unlock()
		return http2.StreamError{StreamID: id, Code: http2.ErrCodeRefusedStream}
	}
	s := c.newStream(id)
	s.headersSeen = true
	s.remoteEnded = f.StreamEnded()
	s.sink = c.newSink(s)
	c.mu.Unlock()
	c.accept(s.sink, f)
	return nil
}

func (c *h2conn) onData(f *http2.DataFrame) error {
	n := int64(f.Length)
	ended := f.StreamEnded()
	c.mu.Lock()
	if c.intake.unread -= n; c.intake.unread < 0 {
		c.mu.Unlock()
		return http2.ConnectionError(http2.ErrCodeFlowControl)
	}
	s := c.streams[f.StreamID]
	if s == nil {
		if f.StreamID > c.lastID {
			c.mu.Unlock()
			return http2.ConnectionError(http2.ErrCodeProtocol)
		}
		c.creditConn(n)
		c.mu.Unlock()
		c.kick()
		return nil
	}
	data := f.Data()
	s.unread -= n
	s.received += int64(len(data))
	var err error
	switch {
	case s.remoteEnded || !s.headersSeen:
		err = http2.StreamError{StreamID: s.id, Code: http2.ErrCodeStreamClosed}
	case s.unread < 0:
		err = http2.StreamError{StreamID: s.id, Code: http2.ErrCodeFlowControl}
	default:
		err = s.checkLength(ended)
	}
	if err != nil {
		c.creditConn(n)
		c.mu.Unlock()
		return err
	}
	before := len(c.wbuf)
	c.hold(n)
	wrote := len(c.wbuf) > before
	if ended {
		s.endRemote()
	}
	c.mu.Unlock()
	if wrote {
		c.kick()
	}
	s.credit(int(n) - len(data)) // padding
	s.sink.data(data, ended)
	return nil
}

func (c *h2conn) onReset(f *http2.RSTStreamFrame) error {
	c.mu.Lock()
	s := c.streams[f.StreamID]
	if s == nil {
		idle := f.StreamID > c.lastID
		c.mu.Unlock()
		if idle {
			return http2.ConnectionError(http2.ErrCodeProtocol)
		}
		return nil
	}
	if p, is := s.sink.(*pair); is && !s.localHead && time.Since(p.call.start) < time.Second {
		// Streams opened and taken back at once are cheap to the peer and dear to us.
		if c.premature++; c.premature > 500 && c.premature > c.opened/2 {
			c.mu.Unlock()
			return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
		}
	}
	lost := c.remove(s)
	c.mu.Unlock()
	s.settle(lost)
	s.sink.reset(f.ErrCode, f.ErrCode == http2.ErrCodeRefusedStream)
	return nil
}

// streamError resets one stream for what the peer did on it.
func (c *h2conn) streamError(e http2.StreamError) error {
	c.mu.Lock()
	s := c.streams[e.StreamID]
	if s == nil {
		if !c.client && e.StreamID > c.lastID {
			c.lastID = e.StreamID
		}
		c.appendReset(e.StreamID, e.Code)
		err := c.checkFlood()
		c.mu.Unlock()
		c.kick()
		return err
	}
	lost := c.remove(s)
	c.appendReset(e.StreamID, e.Code)
	c.mu.Unlock()
	c.kick()
	s.settle(lost)
	s.sink.reset(e.Code, false)
	return nil
}

func (c *h2conn) onWindowUpdate(f *http2.WindowUpdateFrame) error {
	c.mu.Lock()
	defer c.kick()
	defer c.mu.Unlock()
	if f.StreamID == 0 {
		if c.window += int64(f.Increment); c.window > math.MaxInt32 {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		c.starved = time.Time{}
		return nil
	}
	s := c.streams[f.StreamID]
	if s == nil {
		if f.StreamID > c.lastID {
			return http2.ConnectionError(http2.ErrCodeProtocol)
		}
		return nil
	}
	if s.window += int64(f.Increment); s.window > math.MaxInt32 {
		return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeFlowControl}
	}
	c.enqueue(s)
	return nil
}

func (c *h2conn) onSettings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	c.mu.Lock()
	defer c.kick()
	defer c.mu.Unlock()
	err := f.ForeachSetting(c.applySetting)
	if err != nil {
		return err
	}
	c.wbuf = appendFrame(c.wbuf, 0, http2.FrameSettings, http2.FlagSettingsAck, 0)
	return c.checkFlood()
}

func (c *h2conn) applySetting(s http2.Setting) error {
	if err := s.Valid(); err != nil {
		return err
	}
	switch s.ID {
	case http2.SettingInitialWindowSize:
		delta := int64(s.Val) - c.initial
		c.initial = int64(s.Val)
		for _, st := range c.streams {
			if st.window += delta; st.window > math.MaxInt32 {
				return http2.ConnectionError(http2.ErrCodeFlowControl)
			}
			c.enqueue(st)
		}
	case http2.SettingMaxFrameSize:
		c.maxFrame = int(min(s.Val, h2MaxFrame))
	case http2.SettingMaxConcurrentStreams:
		c.peerLimit = s.Val
	case http2.SettingHeaderTableSize:
		c.enc.SetMaxDynamicTableSizeLimit(min(s.Val, 4096))
	}
	return nil
}

func (c *h2conn) onPing(f *http2.PingFrame) error {
	if f.IsAck() {
		return nil
	}
	c.mu.Lock()
	defer c.kick()
	defer c.mu.Unlock()
	c.wbuf = appendFrame(c.wbuf, 8, http2.FramePing, http2.FlagPingAck, 0)
	c.wbuf = append(c.wbuf, f.Data[:]...)
	return c.checkFlood()
}

// checkFlood ends a connection on which answers pile up.
func (c *h2conn) checkFlood() error {
	if len(c.wbuf) > h2ControlLimit {
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	return nil
}

// onGoAway takes no more streams; those that the peer did not look at are handed back as refused.
func (c *h2conn) onGoAway(f *http2.GoAwayFrame) {
	c.mu.Lock()
	c.away = true
	var refused []*h2stream
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
	}
	c.hangUpIfEmpty()
	c.mu.Unlock()
	c.kick()
	for i, s := range refused {
		s.settle(lost[i])
		s.sink.reset(http2.ErrCodeRefusedStream, true)
	}
}
