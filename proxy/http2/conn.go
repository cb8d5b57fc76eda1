package http2

import (
	"bufio"
	"bytes"
	"errors"
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
	// MaxFrame is the largest frame payload accepted.
	MaxFrame = 64 << 10
	// maxStreams is how many streams a caller may have open at once, where ServerOptions do not say.
	maxStreams = 1000
	// gatherLimit bounds what waits to be written; data beyond it stays with its stream.
	gatherLimit = 128 << 10
	// backlogLimit is how much may wait to be written before nothing more is read, so that a caller that does not
	// take its answers gets no more of them. An endpoint is read from all the same, for two ends that both wait
	// for the other would wait for ever; it gets no new streams then.
	backlogLimit = 512 << 10
	// controlLimit ends a connection to an endpoint that makes us answer faster than it reads.
	controlLimit = 4 << 20
	readBuffer   = 16 << 10
	// usualPatience is how long a peer may take for what stands at the beginning of a connection, for a frame or a
	// header block that it has begun, and for taking what it made us write.
	usualPatience = 60 * time.Second
	// lingerTime is how long what a peer still sends is read and dropped after an error was sent to it: closing
	// at once would make its machine drop the GOAWAY with all that was not read.
	lingerTime = time.Second
	// starvedLimit is how long an endpoint may keep all uploads of a connection waiting before new streams go to
	// another one. An endpoint does so when it does not read some of them and bounds them all together.
	starvedLimit = time.Second
	// lastWrite is how long a peer may take to read the last of what is sent to it.
	lastWrite = 5 * time.Second
)

// Sink receives what the peer sends on one stream. All calls come in order from the goroutine that reads the
// connection; none may block.
type Sink interface {
	// Headers brings a head, interim or final, or the trailers. The slice is valid during the call only.
	Headers(fields []hpack.HeaderField, end bool)
	// Data brings a piece of the body, valid during the call only. Its room is given back by Stream.Credit.
	Data(p []byte, end bool)
	// Reset says that the stream ended early. refused: the peer has certainly not worked on it.
	Reset(code http2.ErrCode, refused bool)
}

// Conn is one HTTP/2 connection, in either role (RFC 9113). One goroutine reads, one writes what gathers in
// wbuf; streams have no goroutines.
type Conn struct {
	conn   net.Conn
	br     *bufio.Reader
	fr     *http2.Framer
	blocks *blockReader
	client bool
	// newSink and accept are those of ServerOptions.
	newSink func(*Stream) Sink
	accept  func(Sink, *Head)
	wake    chan struct{}
	done    chan struct{} // closed when the connection is over
	limit   int           // streams that the peer may open
	frames  atomic.Uint64 // read so far; a header block counts as one
	partial atomic.Bool   // a frame or a header block has begun and not come to its end
	clogged atomic.Bool   // more than backlogLimit waits to be written
	roomy   chan struct{} // wakes the reader when it does no longer
	settled bool          // the first frame has come; of the reader only
	// patience is how long the peer may take, see usualPatience.
	patience time.Duration
	begun    time.Time

	// mu guards what follows, and all streams. It is held for short: sinks are called and the connection is written
	// to without it.
	mu        sync.Mutex
	wbuf      []byte
	spare     []byte
	enc       *hpack.Encoder
	block     bytes.Buffer // header block being encoded
	streams   map[uint32]*Stream
	queued    []*Stream // with data to send, waiting for room
	window    int64     // what the peer lets us send on the connection
	starved   time.Time // since when that is nothing while data waits; zero: it is not
	initial   int64     // and on a new stream
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

// Serve reads until the connection is over; WriteLoop runs in another goroutine.
func (c *Conn) Serve() error {
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

func (c *Conn) read() error {
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
func (c *Conn) awaitRoom() {
	for c.clogged.Load() {
		select {
		case <-c.roomy:
		case <-c.done:
			return
		}
	}
}

func (c *Conn) readPreface() error {
	buf := make([]byte, len(http2.ClientPreface))
	_ = c.conn.SetReadDeadline(time.Now().Add(c.patience))
	defer func() { _ = c.conn.SetReadDeadline(time.Time{}) }()
	if _, err := io.ReadFull(c.br, buf); err != nil {
		return err
	}
	if string(buf) != http2.ClientPreface {
		return connectionFault(http2.ErrCodeProtocol, "the connection does not begin with the HTTP/2 preface")
	}
	return nil
}

// next takes one frame, or a header block with all of its frames.
func (c *Conn) next() error {
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
func (c *Conn) readFrame() (http2.Frame, error) {
	h, err := c.fr.ReadFrameHeader()
	if !c.settled && (err == nil || errors.Is(err, http2.ErrFrameTooLarge)) {
		// RFC 9113 section 3.4: SETTINGS are the first thing that either side sends.
		if h.Type != http2.FrameSettings || h.Flags.Has(http2.FlagSettingsAck) {
			return nil, connectionFault(http2.ErrCodeProtocol, "the first frame is not SETTINGS: this is no HTTP/2")
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
func (c *Conn) readBlock(f *http2.HeadersFrame) error {
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
			err = c.chargeLocked(costFragment)
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

func (c *Conn) dispatch(f http2.Frame) error {
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
		return connectionFault(http2.ErrCodeProtocol, "PUSH_PROMISE was not allowed")
	}
	return c.idleFrame() // PRIORITY and unknown frames carry nothing for us
}

// hangUpIfEmptyLocked closes a connection that takes no more streams and has none.
func (c *Conn) hangUpIfEmptyLocked() {
	if c.away && len(c.streams) == 0 && !c.hangUp {
		c.hangUp = true
		_ = c.conn.SetWriteDeadline(time.Now().Add(lastWrite))
	}
}

// fail ends the connection and all its streams.
func (c *Conn) fail(err error) {
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
		c.appendGoAwayLocked(c.lastPeerStreamLocked(), e.code, e.reason)
	}
	c.hangUp = true
	_ = c.conn.SetWriteDeadline(time.Now().Add(lastWrite))

	gone := make([]*Stream, 0, len(c.streams))
	lost := make([]int, 0, len(c.streams))
	for _, s := range c.streams {
		gone = append(gone, s)
	}
	for _, s := range gone {
		lost = append(lost, c.removeLocked(s))
	}
	close(c.done)
	c.mu.Unlock()

	c.kick()
	for i, s := range gone {
		s.settle(lost[i])
		s.sink.Reset(http2.ErrCodeConnect, false)
	}
}

// GoAway asks the peer to open no more streams; those that it opens before it learns of that are still served.
func (c *Conn) GoAway() {
	c.mu.Lock()
	c.appendGoAwayLocked(math.MaxInt32, http2.ErrCodeNo, "")
	c.mu.Unlock()
	c.kick()
}

// Retire takes no more streams and ends the connection with the last one.
func (c *Conn) Retire() {
	c.mu.Lock()
	if c.err == nil {
		c.appendGoAwayLocked(c.lastPeerStreamLocked(), http2.ErrCodeNo, "")
		c.away = true
		c.hangUpIfEmptyLocked()
	}
	c.mu.Unlock()
	c.kick()
}
