package listen

import (
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// goodbyeLook is the time between two looks at TCP connections that should end.
const goodbyeLook = 10 * time.Millisecond

// quietEnough is how long nothing may have moved on a TCP connection for the moment
// to be a good one to end it, when the proxy has been draining for some time. The
// longer it has, the less it waits for: at the end all that are left are cut off,
// whatever they are in the middle of.
func quietEnough(draining time.Duration) time.Duration {
	switch {
	case draining < 2*time.Second:
		return 500 * time.Millisecond
	case draining < 4*time.Second:
		return 100 * time.Millisecond
	}
	return 25 * time.Millisecond
}

// sayGoodbye ends TCP connections while nothing moves on them, until the Manager is
// closed. A gateway passes on what other proxies keep open for all their requests,
// and cannot ask them to end it, as it can where it speaks HTTP itself.
func (m *Manager) sayGoodbye() {
	since := time.Now()
	look := time.NewTicker(goodbyeLook)
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case <-m.closing:
			return
		}

		enough := quietEnough(time.Since(since))
		for _, c := range m.tcpConnections() {
			if quiet, ok := quietFor(c.conn); ok && quiet >= enough {
				_ = c.conn.Close()
			}
		}
	}
}

// tcpConnections are those that are forwarded as they are.
func (m *Manager) tcpConnections() (all []*connection) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, conns := range m.open {
		all = append(all, conns.filter(func(c *connection) bool {
			return c.chain.tcp != nil && c.info.Direction != config.DirectionOutbound
		})...)
	}
	return all
}

// quietFor is how long nothing has moved on a connection. It is false as long as the
// other end has not got all that was sent, and when the kernel does not say.
func quietFor(conn *net.TCPConn) (time.Duration, bool) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, false
	}
	var info *unix.TCPInfo
	cerr := raw.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	})
	if cerr != nil || err != nil || info.Unacked > 0 || info.Notsent_bytes > 0 {
		return 0, false
	}
	return time.Duration(min(info.Last_data_sent, info.Last_data_recv)) * time.Millisecond, true
}
