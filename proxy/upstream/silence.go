package upstream

import (
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// A host that is cut off answers nothing, not even with a refusal, and TCP goes on
// for a quarter of an hour. Where a request can go elsewhere, that is found out as
// soon as the kernel can know.
const (
	// userTimeout is how long what was sent again may stay unacknowledged before the
	// connection is given up (RFC 5482; tcp(7), TCP_USER_TIMEOUT), and rttShare how
	// many round trips more. Linux counts from when it first sends it again, 200 ms
	// after the first time at least, and does so once more after 400 ms: more time than
	// this would be spent waiting, not asking. A host is up to its acknowledgements
	// whatever its application does, so that a slow one is not taken for one that is
	// gone.
	userTimeout = 450 * time.Millisecond
	rttShare    = 4
	// mostUserTimeout bounds both.
	mostUserTimeout = 3 * time.Second
)

// Alone tells whether no other endpoint of the cluster is known to serve: there is
// none, or the others are left out or could not be reached. Then its slowness must
// not look like its end, as nothing is won by giving it up.
func (e *Endpoint) Alone() bool {
	t := e.cluster.table.Load()
	for i := range t.levels {
		for _, other := range t.levels[i].endpoints {
			if other != e && other.health.trial.Load() == 0 && !other.health.ejected.Load() {
				return false
			}
		}
	}
	return true
}

// several tells whether there is another endpoint to go to.
func (c *Cluster) several() bool {
	t := c.table.Load()
	return len(t.levels) > 1 || len(t.levels) == 1 && len(t.levels[0].endpoints)+len(t.rest) > 1
}

// impatient tells whether connections for a protocol are better given up early than
// late: a request can go to another endpoint. A TCP connection that is broken off is
// lost, and what is alone may come back.
func (e *Endpoint) impatient(proto config.Protocol) bool {
	return (proto == config.ProtocolHTTP1 || proto == config.ProtocolHTTP2) && e.cluster.kind == config.ClusterEDS &&
		e.cluster.several()
}

// Impatient tells whether requests to the endpoint can go elsewhere, so that it is worth
// finding out early that it is gone.
func (e *Endpoint) Impatient() bool { return e.impatient(config.ProtocolHTTP2) }

// limitSilence bounds how long a peer may acknowledge nothing. Without the option,
// all is as in the rest of the world.
func (e *Endpoint) limitSilence(conn *net.TCPConn, proto config.Protocol) {
	if !e.impatient(proto) {
		return
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	limit := min(userTimeout+rttShare*handshakeTrip(conn), mostUserTimeout)
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(limit/time.Millisecond))
	})
}

// keepalive returns how idle connections are looked after. Where fields are given,
// the others are the system's.
func (e *Endpoint) keepalive(proto config.Protocol) net.KeepAliveConfig {
	k := e.cluster.Config().Keepalive
	switch {
	case k == nil && e.impatient(proto):
		return net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: time.Second, Count: 3}
	case k == nil && e.cluster.kind == config.ClusterEDS:
		return net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 6}
	case k == nil:
		return net.KeepAliveConfig{Enable: true, Idle: 2 * time.Minute, Interval: 30 * time.Second}
	case k.Off:
		return net.KeepAliveConfig{}
	}

	system := func(d time.Duration) time.Duration { // net takes 0 for its own default
		if d == 0 {
			return -1
		}
		return d
	}
	probes := k.Probes
	if probes == 0 {
		probes = -1
	}
	return net.KeepAliveConfig{Enable: true, Idle: system(k.Idle), Interval: system(k.Interval), Count: probes}
}
