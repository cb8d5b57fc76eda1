package http2

import "sync/atomic"

// The windows that we give peers decide two things: that nobody waits for anybody else, and how much memory bodies
// take that came and cannot move on, as those for a reader that pauses.
//
// Each stream begins with BaseWindow and holds no more than that as long as its reader is slow. While a reader is
// quick the window of its stream grows up to topWindow, out of ExtraRoom that the streams of the connection
// share. The window of the connection is replenished as soon as data has come, not when it has moved on: streams
// that stand never use it up, so they hold up nobody but themselves. A connection hence holds at most BaseWindow
// for each of its streams and ExtraRoom.
//
// All connections of the process together are bounded by heldLimit: beyond it, data that came is replenished once it
// has moved on only, which leaves each connection at most ConnWindow more.
const (
	// BaseWindow and topWindow are how much a peer may send on a stream before it must wait for us, at first
	// and at most, in bytes.
	BaseWindow = 64 << 10
	topWindow  = 1 << 20
	// ExtraRoom is how much the windows of a connection's streams may be above BaseWindow, taken together.
	ExtraRoom = 32 << 20
	// ConnWindow is how much a peer may send on a connection before it must wait for us.
	ConnWindow = 16 << 20
	// heldLimit is how much of bodies the process holds before connections must wait for what they hold.
	heldLimit = 256 << 20
	// HeldStep is how exactly connections report what they hold, so that they do not all write to one counter for
	// each frame.
	HeldStep = 64 << 10
)

// Held counts what the HTTP/2 connections of a process hold of bodies: received, and not moved on yet.
type Held struct {
	n     atomic.Int64
	limit int64
}

// NewHeld begins to count. Connections that share it hold up to heldLimit together.
func NewHeld() *Held { return &Held{limit: heldLimit} }

// NewHeldUpTo is NewHeld with another limit, in bytes.
func NewHeldUpTo(limit int64) *Held { return &Held{limit: limit} }

// Bytes returns how much is held; for each connection it may be off by up to HeldStep.
func (h *Held) Bytes() int64 { return h.n.Load() }

func (h *Held) over() bool { return h.n.Load() > h.limit }

// intake is what a connection has received and what it lets its peer send. The connection's lock guards it.
type intake struct {
	all      *Held
	unread   int64 // what the peer may still send on the connection
	debt     int64 // room on the connection that was not given back yet
	owed     int64 // the part of what is held that gives room back as it moves on only
	holding  int64 // received and not moved on
	reported int64 // the part of holding that all knows of
	extra    int64 // the sum of what stream windows are above BaseWindow
}

// holdLocked notes n bytes that came for a stream, and gives room on the connection back for them.
func (c *Conn) holdLocked(n int64) {
	in := &c.intake
	in.note(n)
	if in.all.over() {
		in.owed += n
		return
	}
	c.creditConnLocked(n + in.owed)
	in.owed = 0
}

// releaseLocked notes that n bytes moved on or were dropped.
func (c *Conn) releaseLocked(n int64) {
	in := &c.intake
	if c.err != nil { // all was reported as released when the connection ended
		return
	}
	in.note(-n)
	if k := min(n, in.owed); k > 0 {
		in.owed -= k
		c.creditConnLocked(k)
	}
}

func (in *intake) note(n int64) {
	in.holding += n
	if d := in.holding - in.reported; d >= HeldStep || d <= -HeldStep {
		in.report()
	}
}

func (in *intake) report() {
	in.all.n.Add(in.holding - in.reported)
	in.reported = in.holding
}

// end reports that nothing is held any more.
func (in *intake) end() {
	in.holding = 0
	in.report()
}

// relieve gives back the room that was kept back while the process held too much. It is called now and then: a
// connection on which everything stands learns of the relief by nothing else.
func (c *Conn) relieve() {
	c.mu.Lock()
	if in := &c.intake; in.owed > 0 && c.err == nil && !in.all.over() {
		c.creditConnLocked(in.owed)
		in.owed = 0
	}
	c.mu.Unlock()
	c.kick()
}

// creditConnLocked gives back room on the connection, now and then.
func (c *Conn) creditConnLocked(n int64) {
	in := &c.intake
	in.debt += n
	if in.debt >= ConnWindow/4 {
		c.wbuf = appendWindowUpdate(c.wbuf, 0, in.debt)
		in.unread += in.debt
		in.debt = 0
	}
}

// Credit gives the peer room for n bytes that have moved on.
func (s *Stream) Credit(n int) {
	if n <= 0 {
		return
	}
	c := s.c
	c.mu.Lock()
	before := len(c.wbuf)
	c.releaseLocked(int64(n))
	if !s.gone && !s.remoteEnded {
		s.debt += int64(n)
		s.replenishLocked()
	}
	wrote := len(c.wbuf) > before
	c.mu.Unlock()
	if wrote {
		c.kick()
	}
}

// replenishLocked lets the peer send more on the stream once enough has moved on to be worth a frame.
func (s *Stream) replenishLocked() {
	c := s.c
	if s.debt < max(s.size/4, BaseWindow/2) {
		return
	}
	held := s.size - s.unread - s.debt
	more := min(s.size, topWindow-s.size)
	if more > 0 && held < s.size/4 && c.intake.extra+more <= ExtraRoom && !c.intake.all.over() {
		c.intake.extra += more
		s.size += more
		s.debt += more
	}
	c.wbuf = appendWindowUpdate(c.wbuf, s.id, s.debt)
	s.unread += s.debt
	s.debt = 0
}
