package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/netutil"
	"golang.org/x/time/rate"
)

// Limits of a server. The clients are the processes of one pod.
const (
	// maxForwards is how many queries may be with resolvers at once: each costs a
	// socket, two goroutines and a buffer, some 12 kB.
	maxForwards = 512
	// maxStreams is how many TCP connections may be open at once; others wait for
	// one to end.
	maxStreams = 64
	// maxQuery is how long a query over UDP may be. Real ones have less than 512
	// bytes.
	maxQuery = 4096
)

// Config says what a [Server] needs.
type Config struct {
	// Listen are the addresses, each served over UDP and TCP. Port 0 takes a free
	// one.
	Listen []netip.AddrPort
	// Resolvers are asked for what the table does not have, in turn. None of them
	// may be the server itself.
	Resolvers  []netip.AddrPort
	Logger     *slog.Logger          // nil: nothing is logged
	Registerer prometheus.Registerer // nil: no metrics are kept
}

// Server answers DNS queries. It is safe for concurrent use.
type Server struct {
	resolvers resolvers
	table     atomic.Pointer[Table] // nil before the first one
	metrics   *metrics
	log       *slog.Logger
	// complain bounds the lines about resolvers that do not answer.
	complain rate.Sometimes

	packets []*net.UDPConn
	streams []net.Listener
	// forwards has room for maxForwards; working are the goroutines of queries.
	forwards chan struct{}
	working  sync.WaitGroup
}

// New opens the sockets. Run serves, and closes them.
func New(c Config) (*Server, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		resolvers: resolvers{servers: c.Resolvers, patience: patience, stagger: stagger},
		metrics:   newMetrics(c.Registerer), log: c.Logger, complain: rate.Sometimes{First: 1, Interval: 10 * time.Second},
		forwards: make(chan struct{}, maxForwards),
	}
	for _, addr := range c.Listen {
		if err := s.listen(addr); err != nil {
			s.close()
			return nil, fmt.Errorf("dns: %w", err)
		}
	}
	return s, nil
}

// portTries is how often a port is looked for where any will do.
const portTries = 20

// listen opens one address over UDP and TCP, with the same port for both. Of port 0,
// what is free over UDP may be taken over TCP: then another one is looked for.
func (s *Server) listen(addr netip.AddrPort) error {
	for try := 1; ; try++ {
		err := s.listenBoth(addr)
		if err == nil || addr.Port() != 0 || !errors.Is(err, syscall.EADDRINUSE) || try == portTries {
			return err
		}
	}
}

func (s *Server) listenBoth(addr netip.AddrPort) error {
	packets, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return err
	}
	stream, err := net.Listen("tcp", packets.LocalAddr().String())
	if err != nil {
		_ = packets.Close() // nothing was sent on it
		return err
	}

	s.packets = append(s.packets, packets)
	s.streams = append(s.streams, netutil.LimitListener(stream, maxStreams))
	return nil
}

func (s *Server) close() {
	for _, c := range s.packets {
		_ = c.Close() // it was open, and nothing is lost with it
	}
	for _, l := range s.streams {
		_ = l.Close()
	}
}

// Addr is the first address that the server listens on.
func (s *Server) Addr() netip.AddrPort {
	return s.packets[0].LocalAddr().(*net.UDPAddr).AddrPort()
}

// SetTable puts a table in force.
func (s *Server) SetTable(t *Table) {
	s.table.Store(t)
	s.metrics.names.Set(float64(t.Len()))
}

// Table is the table in force; nil before the first one.
func (s *Server) Table() *Table { return s.table.Load() }

// Run serves until ctx ends, then closes everything and returns nil.
func (s *Server) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, s.close)()
	var sockets sync.WaitGroup
	for _, c := range s.packets {
		sockets.Go(func() { s.servePackets(ctx, c) })
	}
	for _, l := range s.streams {
		sockets.Go(func() { s.acceptStreams(ctx, l) })
	}
	sockets.Wait()
	s.working.Wait()
	return nil
}

// pause is how long a socket rests whose operation failed, as it does when the
// system is short of memory or files.
const pause = 10 * time.Millisecond

// servePackets answers queries over UDP: those for the table at once, the others on
// a goroutine each, so that none waits for another's resolver.
func (s *Server) servePackets(ctx context.Context, conn *net.UDPConn) {
	in, out := make([]byte, maxQuery), make([]byte, 0, maxMessage)
	var q query
	for {
		n, from, err := conn.ReadFromUDPAddrPort(in)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			s.complain.Do(func() { s.log.Warn("cannot read a DNS query", "error", err) })
			time.Sleep(pause)
			continue
		}

		answer, forward := s.local(out[:0], &q, in[:n], packetLimit)
		if forward {
			s.forwardPacket(ctx, conn, from, in[:n])
		} else if len(answer) > 0 {
			// A client that has gone is no concern of ours.
			_, _ = conn.WriteToUDPAddrPort(answer, from)
		}
	}
}

// packetLimit is how long an answer over UDP may be, streamLimit one over TCP.
func packetLimit(q *query) int { return q.size }
func streamLimit(*query) int   { return maxMessage }

// local answers a query without asking anybody. forward tells that it has to be
// passed on; with neither it gets no answer.
func (s *Server) local(out []byte, q *query, msg []byte, limit func(*query) int) (answer []byte, forward bool) {
	switch err := q.parse(msg); {
	case errors.Is(err, errSilence):
		s.metrics.fail("malformed")
		return nil, false
	case err != nil:
		s.metrics.fail("malformed")
		return q.appendFailure(out, dnsmessage.RCodeFormatError), false
	}

	if q.qtype == typeAXFR || q.qtype == typeIXFR {
		// The answer has many messages; nobody transfers zones through a pod.
		s.metrics.fail("refused")
		return q.appendFailure(out, dnsmessage.RCodeRefused), false
	}

	if t := s.table.Load(); t != nil && q.ours() {
		if rec, target := t.lookup(q.name); rec != nil && rec.answers(q.qtype) {
			s.metrics.mesh.Inc()
			return q.appendAnswer(out, rec, target, limit(q)), false
		}
	}
	return nil, true
}

// Transfers of zones (RFC 5936, RFC 1995).
const (
	typeIXFR dnsmessage.Type = 251
	typeAXFR dnsmessage.Type = dnsmessage.TypeAXFR
)

// forwardPacket passes a query on and sends the answer back.
func (s *Server) forwardPacket(ctx context.Context, conn *net.UDPConn, to netip.AddrPort, msg []byte) {
	msg = append([]byte(nil), msg...)
	s.begin(func(room bool) {
		_, _ = conn.WriteToUDPAddrPort(s.forward(ctx, "udp", msg, room), to)
	})
}

// begin runs a query on a goroutine of its own; room tells whether it may be passed
// on. Without room it is only refused, at once.
func (s *Server) begin(f func(room bool)) {
	select {
	case s.forwards <- struct{}{}:
		s.working.Go(func() {
			defer func() { <-s.forwards }()
			f(true)
		})
	default:
		f(false)
	}
}

// forward asks the resolvers. When none answers, it says so in their place, so that
// the client does not wait in vain.
func (s *Server) forward(ctx context.Context, network string, msg []byte, room bool) []byte {
	var q query
	if err := q.parse(msg); err != nil {
		return nil // it was parsed before
	}
	if !room {
		s.metrics.fail("busy")
		s.complain.Do(func() { s.log.Warn("DNS queries are refused: too many wait for a resolver", "limit", maxForwards) })
		return q.appendFailure(nil, dnsmessage.RCodeServerFailure)
	}

	start := time.Now()
	answer, err := s.resolvers.ask(ctx, network, &q)
	if err != nil {
		s.metrics.fail("resolver")
		if ctx.Err() == nil {
			s.complain.Do(func() { s.log.Warn("no resolver answers", "name", string(q.name), "error", err) })
		}
		return q.appendFailure(nil, dnsmessage.RCodeServerFailure)
	}
	s.metrics.resolver.Inc()
	s.metrics.resolverTime.Observe(time.Since(start).Seconds())
	return answer
}
