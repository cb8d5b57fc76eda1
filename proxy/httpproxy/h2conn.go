package httpproxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// h2MaxFrame is the largest frame payload accepted.
	h2MaxFrame = 64 << 10
	// h2MaxStreams is how many streams a caller may have open at once, unless the configuration says otherwise.
	h2MaxStreams = 1000
	// h2Gather bounds what waits to be written; data beyond it stays with its stream.
	h2Gather = 128 << 10
	// h2Backlog is how much may wait to be written before nothing more is read, so that a caller that does not
	// take its answers gets no more of them. An endpoint is read from all the same, for two ends that both wait
	// for the other would wait for ever; it gets no new streams then.
	h2Backlog = 512 << 10
	// h2ControlLimit ends a connection to an endpoint that makes us answer faster than it reads.
	h2ControlLimit = 4 << 20
	h2ReadBuffer   = 16 << 10
	// h2Patience is how long a peer may take for what stands at the beginning of a connection, for a frame or a
	// header block that it has begun, and for taking what it made us write.
	h2Patience = headTimeout
	// lingerTime is how long what a peer still sends is read and dropped after an error was sent to it: closing
	// at once would make its machine drop the GOAWAY with all that was not read.
	lingerTime = time.Second
	// starvedLimit is how long an endpoint may keep all uploads of a connection waiting before new streams go to
	// another one. An endpoint does so when it does not read some of them and bounds them all together.
	starvedLimit = time.Second
	// lastWrite is how long a peer may take to read the last of what is sent to it.
	lastWrite = 5 * time.Second
)

// h2sink receives what the peer sends on one stream. All calls come in order from the goroutine that reads the
// connection; none may block.
type h2sink interface {
	// headers brings a head, interim or final, or the trailers. The slice is valid during the call only.
	headers(fields []hpack.HeaderField, end bool)
	// data brings a piece of the body, valid during the call only. Its room is given back by credit.
	data(p []byte, end bool)
	// reset says that the stream ended early. refused: the peer has certainly not worked on it.
	reset(code http2.ErrCode, refused bool)
}

// h2conn is one HTTP/2 connection, in either role (RFC 9113). One goroutine reads, one writes what gathers in
// wbuf; streams have no goroutines.
type h2conn struct {
	conn   net.Conn
	br     *bufio.Reader
	fr     *http2.Framer
	blocks *blockReader
	client bool
	bulk   *bulkPool
	// newSink makes the sink of a stream that a client opens; it is called with the lock held. accept then begins
	// the request.
	newSink func(*h2stream) h2sink
	accept  func(h2sink, *h2head)
	wake    chan struct{}
	done    chan struct{} // closed when the connection is over
	limit   int           // streams that the peer may open
	frames  atomic.Uint64 // read so far; a header block counts as one
	partial atomic.Bool   // a frame or a header block has begun and not come to its end
	clogged atomic.Bool   // more than h2Backlog waits to be written
	roomy   chan struct{} // wakes the reader when it does no longer
	settled bool          // the first frame has come; of the reader only
	// patience is h2Patience, or less.
	patience time.Duration
	begun    time.Time

	mu        sync.Mutex
	wbuf      []byte
	spare     []byte
	enc       *hpack.Encoder
	block     bytes.Buffer // header block being encoded
	streams   map[uint32]*h2stream
	queued    []*h2stream // with data to send, waiting for room
	window    int64       // what the peer lets us send on the connection
	starved   time.Time   // since when that is nothing while data waits; zero: it is not
	initial   int64       // and on a new stream
	maxFrame  int
	peerLimit uint32 // streams that the peer lets us open
	ownLimit  uint32 // and that our configuration does; 0: no limit
	total     uint32 // streams over the life of the connection; 0: no limit
	lastID    uint32 // highest stream opened, by either side
	onWire    uint32 // highest stream whose request went to the peer, as a client
	away      bool   // no new streams: GOAWAY came or went
	hangUp    bool   // close once everything is written
	awayLast  uint32 // the last stream that a GOAWAY of ours named
	err       error
	linger    chan struct{} // closed when nothing more is read after an error; nil: nothing was
	cloggedAt time.Time
	acked     bool // the peer acknowledged our settings
	chatter   allowance
	resets    allowance
	closed    closedStreams
	intake    intake
	idleSince time.Time
}

func newH2conn(conn net.Conn, isClient bool, bulk *bulkPool, held *heldBytes) *h2conn {
	now := time.Now()
	c := &h2conn{
		conn: conn, client: isClient, bulk: bulk,
		wake: make(chan struct{}, 1), done: make(chan struct{}), roomy: make(chan struct{}, 1), limit: h2MaxStreams,
		streams: map[uint32]*h2stream{}, window: 65535, initial: 65535, maxFrame: 16384,
		peerLimit: math.MaxInt32, idleSince: now,
		chatter: newAllowance(chatterMost, chatterRate, now), resets: newAllowance(resetMost, resetRate, now),
		awayLast: math.MaxInt32, begun: now, patience: h2Patience,
	}
	c.intake = intake{all: held, unread: h2ConnWindow}
	c.br = bufio.NewReaderSize(conn, h2ReadBuffer)
	c.fr = http2.NewFramer(nil, c.br)
	c.fr.SetReuseFrames()
	c.fr.SetMaxReadFrameSize(h2MaxFrame)
	c.blocks = newBlockReader(maxHead)
	c.enc = hpack.NewEncoder(&c.block)
	return c
}

// start writes the preface and the settings.
func (c *h2conn) start() {
	c.mu.Lock()
	if c.client {
		c.wbuf = append(c.wbuf, preface...)
	}
	settings := []http2.Setting{
		{ID: http2.SettingInitialWindowSize, Val: h2BaseWindow},
		{ID: http2.SettingMaxFrameSize, Val: h2MaxFrame},
		{ID: http2.SettingMaxHeaderListSize, Val: c.blocks.limit},
	}
	if c.client {
		settings = append(settings, http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	} else {
		settings = append(settings, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(c.limit)})
	}
	c.wbuf = appendFrame(c.wbuf, 6*len(settings), http2.FrameSettings, 0, 0)
	for _, s := range settings {
		c.wbuf = append(c.wbuf, byte(s.ID>>8), byte(s.ID))
		c.wbuf = appendUint32(c.wbuf, s.Val)
	}
	c.wbuf = appendWindowUpdate(c.wbuf, 0, h2ConnWindow-65535)
	c.mu.Unlock()
	c.kick()
}

// serve reads until the connection is over; the caller starts write in another goroutine.
func (c *h2conn) serve() error {
	err := c.read()
	var linger chan struct{}
	if asConnectionError(err) != nil {
		c.mu.Lock()
		if c.err == nil {
			linger = make(chan struct{})
			c.linger = linger
		}
		c.mu.Unlock()
	}
	c.fail(err)
	if linger != nil {
		_ = c.conn.SetReadDeadline(time.Now().Add(lingerTime))
		_, _ = io.Copy(io.Discard, c.conn)
		close(linger)
	}
	return err
}

func (c *h2conn) read() error {
	if !c.client {
		if err := c.readPreface(); err != nil {
			return err
		}
	}
	for {
		if c.clogged.Load() && !c.client {
			c.awaitRoom()
		}
		if _, err := c.br.Peek(1); err != nil {
			return err
		}
		c.partial.Store(true)
		err := c.next()
		c.partial.Store(false)
		c.frames.Add(1)
		if err == nil {
			continue
		}
		var stream http2.StreamError
		if !errors.As(err, &stream) {
			return err
		}
		if err := c.streamError(stream); err != nil {
			return err
		}
	}
}

// awaitRoom waits until the peer has taken what waits to be written to it.
func (c *h2conn) awaitRoom() {
	for c.clogged.Load() {
		select {
		case <-c.roomy:
		case <-c.done:
			return
		}
	}
}

func (c *h2conn) readPreface() error {
	buf := make([]byte, len(preface))
	_ = c.conn.SetReadDeadline(time.Now().Add(c.patience))
	defer func() { _ = c.conn.SetReadDeadline(time.Time{}) }()
	if _, err := io.ReadFull(c.br, buf); err != nil {
		return err
	}
	if string(buf) != preface {
		return h2Error(http2.ErrCodeProtocol, "the connection does not begin with the HTTP/2 preface")
	}
	return nil
}

// next takes one frame, or a header block with all of its frames.
func (c *h2conn) next() error {
	f, err := c.readFrame()
	if err != nil {
		return err
	}
	if h, is := f.(*http2.HeadersFrame); is {
		return c.readBlock(h)
	}
	return c.dispatch(f)
}

// readFrame reads one frame. It is valid until the next one.
func (c *h2conn) readFrame() (http2.Frame, error) {
	h, err := c.fr.ReadFrameHeader()
	if !c.settled && (err == nil || errors.Is(err, http2.ErrFrameTooLarge)) {
		// RFC 9113 section 3.4: SETTINGS are the first thing that either side sends.
		if h.Type != http2.FrameSettings || h.Flags.Has(http2.FlagSettingsAck) {
			return nil, h2Error(http2.ErrCodeProtocol, "the first frame is not SETTINGS: this is no HTTP/2")
		}
		c.settled = true
	}
	if err != nil {
		return nil, frameError(h, err)
	}
	f, err := c.fr.ReadFrameForHeader(h)
	if err != nil {
		return nil, frameError(h, err)
	}
	return f, nil
}

// readBlock reads a header block to its end. The framer sees to it that nothing else comes between.
func (c *h2conn) readBlock(f *http2.HeadersFrame) error {
	err := c.blocks.begin(f, !c.client)
	for ended := f.HeadersEnded(); err == nil && !ended; {
		var next http2.Frame
		if next, err = c.readFrame(); err != nil {
			break
		}
		part := next.(*http2.ContinuationFrame)
		ended = part.HeadersEnded()
		if len(part.HeaderBlockFragment()) < smallFragment && !ended {
			c.mu.Lock()
			err = c.charge(costFragment)
			c.mu.Unlock()
		}
		if err == nil {
			err = c.blocks.add(part.HeaderBlockFragment())
		}
	}
	if err != nil {
		return err
	}
	h, err := c.blocks.finish(c.client)
	if err != nil {
		return err
	}
	return c.onHead(h)
}

func (c *h2conn) dispatch(f http2.Frame) error {
	switch f := f.(type) {
	case *http2.DataFrame:
		return c.onData(f)
	case *http2.WindowUpdateFrame:
		return c.onWindowUpdate(f)
	case *http2.RSTStreamFrame:
		return c.onReset(f)
	case *http2.SettingsFrame:
		return c.onSettings(f)
	case *http2.PingFrame:
		return c.onPing(f)
	case *http2.GoAwayFrame:
		return c.onGoAway(f)
	case *http2.PushPromiseFrame:
		return h2Error(http2.ErrCodeProtocol, "PUSH_PROMISE was not allowed")
	}
	return c.idleFrame() // PRIORITY and unknown frames carry nothing for us
}

// hangUpIfEmpty closes a connection that takes no more streams and has none.
func (c *h2conn) hangUpIfEmpty() {
	if c.away && len(c.streams) == 0 && !c.hangUp {
		c.hangUp = true
		_ = c.conn.SetWriteDeadline(time.Now().Add(lastWrite))
	}
}

// fail ends the connection and all its streams.
func (c *h2conn) fail(err error) {
	if err == nil {
		err = errors.New("the connection was closed")
	}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	c.intake.end()
	c.away = true
	if e := asConnectionError(err); e != nil {
		c.appendGoAway(c.lastPeerStream(), e.code, e.reason)
	}
	c.hangUp = true
	_ = c.conn.SetWriteDeadline(time.Now().Add(lastWrite))
	gone := make([]*h2stream, 0, len(c.streams))
	lost := make([]int, 0, len(c.streams))
	for _, s := range c.streams {
		gone = append(gone, s)
	}
	for _, s := range gone {
		lost = append(lost, c.remove(s))
	}
	close(c.done)
	c.mu.Unlock()
	c.kick()
	for i, s := range gone {
		s.settle(lost[i])
		s.sink.reset(http2.ErrCodeConnect, false)
	}
}

// cause says why a stream was reset.
func (s *h2stream) cause(code http2.ErrCode) error {
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
