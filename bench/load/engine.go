package load

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// dialTimeout bounds the time until all connections are open, and until each
// answered once.
const dialTimeout = 10 * time.Second

type conn struct {
	fd      int
	s       session
	pending []byte // what the socket would not take yet
}

// engine is one epoll loop over all connections.
type engine struct {
	spec  Spec
	epoll int
	timer int // -1 in a closed run
	conns []*conn
	buf   []byte
	out   []byte

	start   time.Time
	sent    int64           // requests sent in an open run
	backlog []time.Duration // due times of requests that no connection was free for
	next    int             // where the search for a free connection goes on

	measuring bool
	begin     time.Duration // start of the measured time
	res       Result
	stopAt    int64 // total at which once ends; 0 for a timed run
}

func newEngine(spec Spec) (*engine, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return &engine{spec: spec, epoll: ep, timer: -1, buf: make([]byte, 256<<10)}, nil
}

func (e *engine) close() {
	for _, c := range e.conns {
		_ = unix.Close(c.fd)
	}
	if e.timer >= 0 {
		_ = unix.Close(e.timer)
	}
	_ = unix.Close(e.epoll)
}

func (e *engine) now() time.Duration { return time.Since(e.start) }

func (e *engine) connect() error {
	for i := range e.spec.Conns {
		fd, err := dial(&e.spec)
		if err != nil {
			return fmt.Errorf("connection %d to %s: %w", i+1, e.spec.Target, err)
		}
		s, err := newSession(&e.spec)
		if err != nil {
			_ = unix.Close(fd)
			return err
		}
		c := &conn{fd: fd, s: s}
		e.conns = append(e.conns, c)
		ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}
		if err := unix.EpollCtl(e.epoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
			return fmt.Errorf("epoll: %w", err)
		}
		if err := e.write(c, s.hello()); err != nil {
			return err
		}
	}
	return nil
}

// dial connects blocking, then makes the socket non-blocking.
func dial(spec *Spec) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	timeout := unix.NsecToTimeval(int64(dialTimeout))
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout),
	)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(spec.Target.Port()), Addr: spec.Target.Addr().As4()})
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		_ = unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

// run sends for the warm-up and the measured time.
func (e *engine) run() (*Result, error) {
	e.start = time.Now()
	if e.spec.Rate > 0 {
		if err := e.startTimer(); err != nil {
			return nil, err
		}
	} else if err := e.fill(); err != nil {
		return nil, err
	}
	end := e.spec.Warmup + e.spec.Duration
	for {
		now := e.now()
		if !e.measuring && now >= e.spec.Warmup {
			if err := e.beginMeasure(); err != nil {
				return nil, err
			}
		}
		if now >= end {
			break
		}
		if err := e.step(end); err != nil {
			return nil, err
		}
	}
	e.res.Elapsed = e.now() - e.begin
	if e.spec.AtEnd != nil {
		return &e.res, e.spec.AtEnd()
	}
	return &e.res, nil
}

func (e *engine) beginMeasure() error {
	if e.res.Total == 0 {
		return errors.New("no answer at all in the warm-up")
	}
	if e.spec.AtStart != nil {
		if err := e.spec.AtStart(); err != nil {
			return err
		}
	}
	e.measuring, e.begin = true, e.now()
	return nil
}

// once sends one request on each connection and waits for all answers.
func (e *engine) once() error {
	e.start = time.Now()
	for _, c := range e.conns {
		if err := e.write(c, c.s.request(e.out[:0], 0)); err != nil {
			return err
		}
	}
	e.stopAt = int64(len(e.conns))
	for e.res.Total < e.stopAt {
		if e.now() > dialTimeout {
			return fmt.Errorf("%d of %d connections had an answer within %s", e.res.Total, e.stopAt, dialTimeout)
		}
		if err := e.step(dialTimeout); err != nil {
			return err
		}
	}
	return nil
}

// fill gives every connection all the requests that it can have in flight.
func (e *engine) fill() error {
	for _, c := range e.conns {
		if err := e.refill(c, nil); err != nil {
			return err
		}
	}
	return nil
}

// step waits for sockets (until the time at the latest) and serves them.
func (e *engine) step(until time.Duration) error {
	var events [128]unix.EpollEvent
	wait := max(int((until-e.now())/time.Millisecond), 0) + 1
	n, err := unix.EpollWait(e.epoll, events[:], wait)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("epoll: %w", err)
	}
	for _, ev := range events[:max(n, 0)] {
		if ev.Fd == timerEvent {
			if err := e.tick(); err != nil {
				return err
			}
			continue
		}
		if err := e.serve(e.conns[ev.Fd], ev.Events); err != nil {
			return err
		}
	}
	return nil
}

func (e *engine) serve(c *conn, events uint32) error {
	if events&unix.EPOLLOUT != 0 {
		if err := e.flush(c); err != nil {
			return err
		}
	}
	if events&^unix.EPOLLOUT == 0 {
		return nil
	}
	n, err := unix.Read(c.fd, e.buf)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return nil
	case err != nil:
		return fmt.Errorf("read: %w", err)
	case n == 0:
		return errClosed
	}
	now := e.now()
	out, err := c.s.input(e.buf[:n], e.out[:0], func(due time.Duration) { e.done(now - due) })
	if err != nil {
		return err
	}
	return e.refill(c, out)
}

func (e *engine) done(latency time.Duration) {
	e.res.Total++
	if !e.measuring {
		return
	}
	e.res.Requests++
	if e.timer >= 0 {
		e.res.Latencies = append(e.res.Latencies, latency)
	}
}

// refill appends the requests that the connection can take now, and sends.
func (e *engine) refill(c *conn, out []byte) error {
	for n := c.s.free(); n > 0 && e.stopAt == 0; n-- {
		due := e.now()
		if e.timer >= 0 {
			if len(e.backlog) == 0 {
				break
			}
			due, e.backlog = e.backlog[0], e.backlog[1:]
		}
		out = c.s.request(out, due)
	}
	return e.write(c, out)
}

func (e *engine) write(c *conn, data []byte) error {
	if cap(data) > cap(e.out) {
		e.out = data[:0]
	}
	if len(data) == 0 {
		return nil
	}
	if len(c.pending) > 0 {
		c.pending = append(c.pending, data...)
		return nil
	}
	n, err := unix.Write(c.fd, data)
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("write: %w", err)
	}
	if n = max(n, 0); n == len(data) {
		return nil
	}
	c.pending = append(c.pending, data[n:]...)
	return e.watch(c, unix.EPOLLIN|unix.EPOLLOUT)
}

func (e *engine) flush(c *conn) error {
	data := c.pending
	c.pending = nil
	if err := e.watch(c, unix.EPOLLIN); err != nil {
		return err
	}
	return e.write(c, data)
}

func (e *engine) watch(c *conn, events uint32) error {
	for i := range e.conns {
		if e.conns[i] == c {
			ev := unix.EpollEvent{Events: events, Fd: int32(i)}
			return unix.EpollCtl(e.epoll, unix.EPOLL_CTL_MOD, c.fd, &ev)
		}
	}
	return nil
}
