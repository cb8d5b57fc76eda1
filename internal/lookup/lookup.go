// Package lookup resolves host names with the system's configuration, and tells
// for how long the answer may be used.
package lookup

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// System is Go's own, by /etc/hosts and /etc/resolv.conf, which it reads
// again when they change. Go does not tell for how long an answer may be used,
// so the answers are read as they pass. It is safe for concurrent use.
type System struct {
	// dial connects to a DNS server.
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// NewSystem makes a System.
func NewSystem() *System {
	return &System{dial: new(net.Dialer).DialContext}
}

// Resolve returns the addresses of a host, IPv4 and IPv6, and for how long they may
// be used: the least TTL of the records that led to them. It is zero where nobody
// says (/etc/hosts), and where a record says so.
func (s *System) Resolve(ctx context.Context, host string) ([]netip.Addr, time.Duration, error) {
	// What passes over the connections of this net.Resolver belongs to this
	// name: a common one would mix the answers for several up.
	var answers answerTTL
	r := net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := s.dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return answers.watch(conn), nil
		},
	}

	addrs, err := r.LookupNetIP(ctx, "ip", host)
	return addrs, answers.least(), err
}

// answerTTL keeps the least TTL of the answers to the queries of one look-up. It
// has a lock because IPv4 and IPv6 are asked for at once, and a look-up that was
// given up may still read.
type answerTTL struct {
	mu  sync.Mutex
	ttl time.Duration
	any bool
}

func (a *answerTTL) least() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ttl
}

func (a *answerTTL) add(ttl time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.any || ttl < a.ttl {
		a.any, a.ttl = true, ttl
	}
}

// watch returns the connection with an eye on its answers. Go tells datagrams
// from a stream by whether the connection is a net.PacketConn.
func (a *answerTTL) watch(conn net.Conn) net.Conn {
	switch c := conn.(type) {
	case *net.UDPConn:
		return &watchedDatagrams{UDPConn: c, answers: a}
	case *net.TCPConn:
		return &watchedStream{TCPConn: c, answers: a}
	}
	return conn
}

// read takes note of one message, if it answers the query of this id: others, of
// a server that is late or of somebody else, are not used by Go either.
func (a *answerTTL) read(msg []byte, id uint16) {
	if ttl, ok := leastTTL(msg, id); ok {
		a.add(ttl)
	}
}

// watchedDatagrams is a connection to a DNS server by UDP: a message each.
type watchedDatagrams struct {
	*net.UDPConn
	answers *answerTTL
	id      uint16
}

// Write implements net.Conn.
func (w *watchedDatagrams) Write(query []byte) (int, error) {
	if len(query) >= 2 {
		w.id = binary.BigEndian.Uint16(query)
	}
	return w.UDPConn.Write(query)
}

// Read implements net.Conn.
func (w *watchedDatagrams) Read(b []byte) (int, error) {
	n, err := w.UDPConn.Read(b)
	w.answers.read(b[:n], w.id)
	return n, err
}

// watchedStream is a connection to a DNS server by TCP. Each message follows its
// length, in two bytes (RFC 1035, section 4.2.2); Go asks one question on a
// connection.
type watchedStream struct {
	*net.TCPConn
	answers *answerTTL
	id      uint16
	got     []byte
}

// Write implements net.Conn.
func (w *watchedStream) Write(query []byte) (int, error) {
	if len(query) >= 4 {
		w.id = binary.BigEndian.Uint16(query[2:])
	}
	return w.TCPConn.Write(query)
}

// Read implements net.Conn.
func (w *watchedStream) Read(b []byte) (int, error) {
	n, err := w.TCPConn.Read(b)
	w.got = append(w.got, b[:n]...)
	if len(w.got) >= 2 {
		if end := 2 + int(binary.BigEndian.Uint16(w.got)); len(w.got) >= end {
			w.answers.read(w.got[2:end], w.id)
		}
	}
	return n, err
}

// leastTTL returns the least TTL of the addresses, and of the aliases on the way
// to them, in an answer to the query of this id; false when there are none.
func leastTTL(msg []byte, id uint16) (ttl time.Duration, ok bool) {
	var p dnsmessage.Parser
	head, err := p.Start(msg)
	if err != nil || !head.Response || head.ID != id {
		return 0, false
	}
	if err := p.SkipAllQuestions(); err != nil {
		return 0, false
	}

	for {
		rr, err := p.AnswerHeader()
		if err != nil {
			return ttl, ok
		}

		switch rr.Type {
		case dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypeCNAME:
			if t := ttlOf(rr.TTL); !ok || t < ttl {
				ttl, ok = t, true
			}
		}

		if err := p.SkipAnswer(); err != nil {
			return ttl, ok
		}
	}
}

// ttlOf reads a TTL; one whose first bit is set counts as 0 (RFC 2181, section
// 8).
func ttlOf(seconds uint32) time.Duration {
	if seconds>>31 != 0 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
