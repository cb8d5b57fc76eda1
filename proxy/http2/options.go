package http2

import (
	"bufio"
	"math"
	"net"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// ServerOptions say what a server end does with the streams that the peer opens.
type ServerOptions struct {
	// NewSink makes the sink of a stream; it is called with the lock of the connection held and must call nothing of
	// it. Accept then begins the request, in the goroutine that reads; it must not block.
	NewSink func(*Stream) Sink
	Accept  func(Sink, *Head)
	// MaxStreams is how many streams the peer may have open at once, MaxHead the bound of a decoded header block.
	// 0: maxStreams, MaxHead.
	MaxStreams int
	MaxHead    uint32
	// Patience is how long the peer may take for what it has begun, for the acknowledgement of our settings and for
	// reading what it made us write; 0: a minute.
	Patience time.Duration
}

// NewServer makes the server end of a connection. Both Serve and WriteLoop must run, each in a goroutine.
func NewServer(conn net.Conn, held *Held, o ServerOptions) *Conn {
	c := newConn(conn, held)
	c.newSink, c.accept = o.NewSink, o.Accept
	if o.MaxStreams > 0 {
		c.limit = o.MaxStreams
	}
	if o.MaxHead > 0 {
		c.blocks.limit = min(o.MaxHead, MaxHead)
	}
	if o.Patience > 0 {
		c.patience = o.Patience
	}
	c.appendSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(c.limit)})
	return c
}

// ClientOptions bound the streams that a client end opens; 0: no bound of ours.
type ClientOptions struct {
	MaxOpen  uint32 // at once
	MaxTotal uint32 // over the life of the connection
}

// NewClient makes the client end of a connection. Both Serve and WriteLoop must run, each in a goroutine; streams can
// be opened before.
func NewClient(conn net.Conn, held *Held, o ClientOptions) *Conn {
	c := newConn(conn, held)
	c.client = true
	c.ownLimit, c.total = o.MaxOpen, o.MaxTotal
	c.wbuf = append(c.wbuf, http2.ClientPreface...)
	c.appendSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	return c
}

func newConn(conn net.Conn, held *Held) *Conn {
	now := time.Now()
	c := &Conn{
		conn: conn,
		wake: make(chan struct{}, 1), done: make(chan struct{}), roomy: make(chan struct{}, 1), limit: maxStreams,
		streams: map[uint32]*Stream{}, window: 65535, initial: 65535, maxFrame: 16384,
		peerLimit: math.MaxInt32, idleSince: now,
		chatter: newAllowance(chatterMost, chatterRate, now), resets: newAllowance(resetMost, resetRate, now),
		awayLast: math.MaxInt32, begun: now, patience: usualPatience,
	}
	c.intake = intake{all: held, unread: ConnWindow}
	c.br = bufio.NewReaderSize(conn, readBuffer)
	c.fr = http2.NewFramer(nil, c.br)
	c.fr.SetReuseFrames()
	c.fr.SetMaxReadFrameSize(MaxFrame)
	c.blocks = newBlockReader(MaxHead)
	c.enc = hpack.NewEncoder(&c.block)
	return c
}

// appendSettings puts our settings before all else, those of this end's role behind those of both.
func (c *Conn) appendSettings(own http2.Setting) {
	settings := []http2.Setting{
		{ID: http2.SettingInitialWindowSize, Val: BaseWindow},
		{ID: http2.SettingMaxFrameSize, Val: MaxFrame},
		{ID: http2.SettingMaxHeaderListSize, Val: c.blocks.limit},
		own,
	}
	c.wbuf = appendFrame(c.wbuf, 6*len(settings), http2.FrameSettings, 0, 0)
	for _, s := range settings {
		c.wbuf = append(c.wbuf, byte(s.ID>>8), byte(s.ID))
		c.wbuf = appendUint32(c.wbuf, s.Val)
	}
	c.wbuf = appendWindowUpdate(c.wbuf, 0, ConnWindow-65535)
}
