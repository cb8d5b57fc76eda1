package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// timerEvent stands in an epoll event for the timer.
const timerEvent = -1

// startTimer makes requests due at the rate of the run. The kernel's timer is
// exact to microseconds where Go's is to a millisecond.
func (e *engine) startTimer() error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("timer: %w", err)
	}
	e.timer = fd
	every := unix.NsecToTimespec(int64(e.period()))
	if err := unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: every, Value: every}, nil); err != nil {
		return fmt.Errorf("timer: %w", err)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: timerEvent}
	return unix.EpollCtl(e.epoll, unix.EPOLL_CTL_ADD, fd, &ev)
}

func (e *engine) period() time.Duration {
	return time.Duration(float64(time.Second) / e.spec.Rate)
}

// tick sends the requests that have become due since the last tick. A request
// is due when its time has come by the rate, even if this thread was late.
func (e *engine) tick() error {
	var b [8]byte
	if _, err := unix.Read(e.timer, b[:]); err != nil {
		if errors.Is(err, unix.EAGAIN) {
			return nil
		}
		return fmt.Errorf("timer: %w", err)
	}
	for range binary.NativeEndian.Uint64(b[:]) {
		e.sent++
		e.backlog = append(e.backlog, time.Duration(e.sent)*e.period())
	}
	for range e.conns {
		if len(e.backlog) == 0 {
			return nil
		}
		c := e.conns[e.next]
		e.next = (e.next + 1) % len(e.conns)
		if c.s.free() == 0 {
			continue
		}
		due := e.backlog[0]
		e.backlog = e.backlog[1:]
		if err := e.write(c, c.s.request(e.out[:0], due)); err != nil {
			return err
		}
	}
	return nil
}
