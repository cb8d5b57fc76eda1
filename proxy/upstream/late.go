package upstream

import (
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The address of a machine that is gone swallows what is sent there: a connection to it
// neither comes about nor fails until its time is over. Who waits for one is told as
// soon as it takes longer than is usual where the endpoint stands, and may ask another
// endpoint beside it, see Race. Until the connection has come about or failed, requests
// that have a choice go elsewhere; it is failure that counts against the endpoint, not
// this.
//
// The gateway of another network answers for endpoints that are gone: it takes the
// connection, and waits for one to them itself. With it, the TLS handshake is what shows
// whether anybody is there.

const (
	// leastPatience is the shortest time after which another endpoint is asked, the
	// least that RFC 8305, section 8, recommends: at a short distance, and so that a
	// machine that is busy for a moment is not taken for one that is gone.
	leastPatience = 100 * time.Millisecond
	// firstPatience is that time where it is not known yet what is usual (RFC 8305,
	// section 5).
	firstPatience = 250 * time.Millisecond
	// leastGatewayPatience is the shortest time after which a handshake through a gateway
	// is late: that gateway has the patience of leastPatience, and asks another endpoint
	// behind it then.
	leastGatewayPatience = leastPatience + 50*time.Millisecond
)

// habits are how long connections take to endpoints that stand together. The zero value
// knows nothing yet.
type habits struct {
	connection usual // until the kernel there has answered the SYN
	handshake  usual // of TLS, through the gateway of another network, until it is done
}

// usual is how long a place takes to answer, reckoned as TCP reckons round trips (RFC
// 6298, section 2). The zero value knows nothing yet. It is safe for concurrent use.
type usual struct {
	mu           sync.Mutex // guards what follows
	known        bool
	mean, spread time.Duration
}

// note takes one more answer down.
func (u *usual) note(took time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()

	if !u.known {
		u.known, u.mean, u.spread = true, took, took/2
		return
	}
	u.spread += ((u.mean - took).Abs() - u.spread) / 4
	u.mean += (took - u.mean) / 8
}

// patience is how long an answer may take before it is late, least at least.
func (u *usual) patience(least time.Duration) time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()

	if !u.known {
		return firstPatience
	}
	return max(u.mean+4*u.spread, least)
}

// lateness tells who waits for a connection to an endpoint that it takes longer than
// usual. The zero value is ready.
type lateness struct {
	mu    sync.Mutex    // guards what follows
	late  bool          // a dial is late, and none has come about since
	dials int           // how many that are under way were late
	told  chan struct{} // closed when one is; nil where nobody has asked
	trial int64         // what it set in health.trial
}

// Late returns a channel that is closed as long as a connection to the endpoint is
// under way that is late, and none has come about meanwhile.
func (e *Endpoint) Late() <-chan struct{} {
	l := &e.lateness
	l.mu.Lock()
	defer l.mu.Unlock()

	if l.told == nil {
		l.told = make(chan struct{})
		if l.late {
			close(l.told)
		}
	}
	return l.told
}

// tardy notes that a dial is late.
func (e *Endpoint) tardy() {
	l := &e.lateness
	l.mu.Lock()
	defer l.mu.Unlock()

	l.dials++
	if l.late {
		return
	}
	l.late = true

	// Whoever has a choice is spared the wait. It comes before those who wait are told,
	// as they choose at once.
	if at := e.cluster.set.now() + int64(doubtTime); e.health.trial.CompareAndSwap(0, at) {
		l.trial = at
	}
	if l.told != nil {
		close(l.told)
	}
}

// settled notes the end of a dial: whether it was late, and whether the endpoint
// answered. A late one that is left when another has come about was one SYN that got
// lost.
func (e *Endpoint) settled(late, answered bool) {
	l := &e.lateness
	l.mu.Lock()
	defer l.mu.Unlock()

	if late {
		l.dials--
	}
	if !l.late || !answered && l.dials > 0 {
		return
	}
	l.late, l.told = false, nil
	if answered && l.trial != 0 {
		e.health.trial.CompareAndSwap(l.trial, 0)
	}
	l.trial = 0
}

// mayBeLate tells whether anybody could be helped by being told: there is another
// endpoint.
func (e *Endpoint) mayBeLate() bool { return e.habits.Load() != nil && e.cluster.several() }

// watchDial has tardy called when nothing has come back from the endpoint after longer
// than is usual. stop is to be called when the dial is over.
func (e *Endpoint) watchDial(d *net.Dialer) (stop func(err error)) {
	if !e.mayBeLate() {
		return func(error) {}
	}

	var mu sync.Mutex // guards socket
	var socket syscall.RawConn
	d.Control = func(_, _ string, c syscall.RawConn) error {
		mu.Lock()
		defer mu.Unlock()
		socket = c
		return nil
	}
	ended := e.tardyAfter(e.habits.Load().connection.patience(leastPatience), func() bool {
		mu.Lock()
		defer mu.Unlock()
		return socket != nil && unanswered(socket)
	})
	// That a gateway takes connections ends no wait for those behind it.
	return func(err error) { ended(err == nil && !e.AnswersForOthers()) }
}

// watchHandshake has tardy called when a gateway has taken a connection, and longer than
// usual nothing comes back through it. stop is to be called when the handshake is over.
func (e *Endpoint) watchHandshake(conn *net.TCPConn) (stop func(err error)) {
	socket, err := conn.SyscallConn()
	if err != nil || !e.mayBeLate() || !e.AnswersForOthers() {
		return func(error) {}
	}

	began, usual := time.Now(), &e.habits.Load().handshake
	ended := e.tardyAfter(usual.patience(leastGatewayPatience), func() bool { return silent(socket) })
	return func(err error) {
		if err == nil {
			usual.note(time.Since(began))
		}
		ended(err == nil)
	}
}

// AnswersForOthers tells whether connections to the endpoint come about, though those may
// be gone for whom they are.
func (e *Endpoint) AnswersForOthers() bool { return e.cfg.Gateway && e.TLS() != nil }

// tardyAfter calls tardy after a time if the peer still lets us wait then, as waits says. ended is to be called
// when nobody waits for it any more, with whether it has answered.
func (e *Endpoint) tardyAfter(patience time.Duration, waits func() bool) (ended func(answered bool)) {
	var mu sync.Mutex // guards what follows
	var late, over bool
	timer := time.AfterFunc(patience, func() {
		mu.Lock()
		defer mu.Unlock()
		if !over && waits() {
			late = true
			e.tardy()
		}
	})

	return func(answered bool) {
		timer.Stop()
		mu.Lock()
		defer mu.Unlock()
		over = true
		e.settled(late, answered)
	}
}

// unanswered reports whether the peer's machine has not answered the SYN yet. The
// kernel is asked, as this process may be what is slow.
func unanswered(socket syscall.RawConn) bool {
	waits := false
	err := socket.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		waits = err == nil && info.State == unix.BPF_TCP_SYN_SENT
	})
	return err == nil && waits
}

// silent reports whether nothing that the peer has sent has arrived.
func silent(socket syscall.RawConn) bool {
	nothing := false
	err := socket.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		nothing = err == nil && info.Bytes_received == 0
	})
	return err == nil && nothing
}
