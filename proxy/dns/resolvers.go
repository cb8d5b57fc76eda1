package dns

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Times of a query that is passed on.
const (
	// patience is how long there may be no answer: what a resolver waits for one
	// (resolv.conf(5), timeout).
	patience = 5 * time.Second
	// stagger is after how long the next resolver is asked as well. The one that
	// was asked before is still listened to.
	stagger = time.Second
)

// resolvers are the name servers that the pod would ask without the sidecar, in the
// order in which they are asked.
type resolvers struct {
	servers           []netip.AddrPort
	patience, stagger time.Duration
}

// errNoResolver is for pods whose only name server is one of their own.
var errNoResolver = errors.New("there is no name server outside the pod in resolv.conf")

// reply is what one resolver said.
type reply struct {
	msg []byte
	err error
}

// ask passes a query on as it is, and returns the answer with the query's own id.
// An answer by which a resolver says that it cannot tell counts only if no other
// resolver has a better one.
func (u *resolvers) ask(ctx context.Context, network string, q *query) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, u.patience)
	defer cancel() // ends those that are still being asked

	// Most pods have one resolver, and nothing to choose.
	if len(u.servers) == 1 {
		r := u.exchange(ctx, network, u.servers[0], q)
		return r.msg, r.err
	}

	replies := make(chan reply, len(u.servers))
	next := time.NewTimer(0)
	defer next.Stop()

	asked, waiting := 0, 0
	var excuse []byte
	err := errNoResolver
	for asked < len(u.servers) || waiting > 0 {
		select {
		case <-next.C:
			if asked < len(u.servers) {
				server := u.servers[asked]
				go func() { replies <- u.exchange(ctx, network, server, q) }()
				asked++
				waiting++
				next.Reset(u.stagger)
			}
		case r := <-replies:
			waiting--
			if r.err == nil && !unhelpful(r.msg) {
				return r.msg, nil
			}
			if r.err != nil {
				err = r.err
			} else {
				excuse = r.msg
			}
			next.Reset(0)
		}
	}

	if excuse != nil {
		return excuse, nil
	}
	return nil, err
}

// unhelpful tells whether another resolver may know more.
func unhelpful(msg []byte) bool {
	switch dnsmessage.RCode(msg[3] & rcodeMask) {
	case dnsmessage.RCodeServerFailure, dnsmessage.RCodeRefused, dnsmessage.RCodeNotImplemented:
		return true
	}
	return false
}

// exchange asks one resolver. Each query has a socket of its own, so that its port,
// which the kernel draws, is as hard to guess as its id (RFC 5452, section 9.2).
func (u *resolvers) exchange(ctx context.Context, network string, server netip.AddrPort, q *query) reply {
	conn, err := dial(ctx, network, server)
	if err != nil {
		return reply{err: fmt.Errorf("%s: %w", network, cause(ctx, err))}
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()

	var id [2]byte
	_, _ = rand.Read(id[:]) // never fails
	out := append(make([]byte, 0, len(q.msg)+2), id[:]...)
	out = append(out, q.msg[2:]...)

	var msg []byte
	if network == "tcp" {
		msg, err = exchangeStream(conn, out)
	} else {
		msg, err = exchangePacket(conn, out, q.size)
	}
	if err != nil {
		return reply{err: fmt.Errorf("%s %s: %w", network, server, cause(ctx, err))}
	}
	copy(msg, q.msg[:2])
	return reply{msg: msg}
}

func dial(ctx context.Context, network string, server netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	if network == "tcp" {
		return d.DialTCP(ctx, network, netip.AddrPort{}, server)
	}
	return d.DialUDP(ctx, network, netip.AddrPort{}, server)
}

// cause prefers the reason why waiting has ended to the error that it looks like.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// exchangePacket sends a query and waits for its answer. What else comes to the
// socket is not for us, or is forged.
func exchangePacket(conn net.Conn, query []byte, size int) ([]byte, error) {
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	in := make([]byte, size+1)
	for {
		n, err := conn.Read(in)
		if err != nil {
			return nil, err
		}
		msg := in[:n]
		if !answersTo(msg, query) {
			continue
		}
		if n > size {
			// Longer than the client takes: it gets what any server would
			// send then, and comes again by TCP.
			return truncated(msg, questionEnd(query)), nil
		}
		return msg, nil
	}
}

// exchangeStream does the same over TCP (RFC 1035, section 4.2.2).
func exchangeStream(conn net.Conn, query []byte) ([]byte, error) {
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(make([]byte, 0, len(query)+2), uint16(len(query))), query...)); err != nil {
		return nil, err
	}
	msg, err := readStream(conn, nil)
	if err != nil {
		return nil, err
	}
	if !answersTo(msg, query) {
		return nil, errors.New("the answer is to another question")
	}
	return msg, nil
}

// readStream reads one message, into buf when it is long enough.
func readStream(r io.Reader, buf []byte) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if n > cap(buf) {
		buf = make([]byte, n)
	}
	_, err := io.ReadFull(r, buf[:n])
	return buf[:n], err
}

// answersTo tells whether msg answers the query: by its id and its question. The
// case of letters may differ: it is the client's to judge whether that matters.
// Servers that have not understood a query may leave the question out.
func answersTo(msg, query []byte) bool {
	if len(msg) < headerSize || msg[2]&(bitResponse>>8) == 0 || !bytes.Equal(msg[:2], query[:2]) {
		return false
	}
	if binary.BigEndian.Uint16(msg[4:]) == 0 {
		return msg[3]&rcodeMask != 0
	}
	end := questionEnd(query)
	return len(msg) >= end && binary.BigEndian.Uint16(msg[4:]) == 1 && equalFold(msg[headerSize:end], query[headerSize:end])
}

// equalFold compares ASCII letters without case. The lengths of labels and the type
// are below the letters, or equal as they are.
func equalFold(a, b []byte) bool {
	for i := range a {
		if a[i] != b[i] && lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

// questionEnd is where the question of a query that was parsed ends.
func questionEnd(query []byte) int {
	at := headerSize
	for query[at] != 0 {
		at += 1 + int(query[at])
	}
	return at + 1 + 4
}

// truncated cuts an answer behind its question and says so.
func truncated(msg []byte, end int) []byte {
	msg = msg[:min(end, len(msg))]
	msg[2] |= bitTruncated >> 8
	clear(msg[6:headerSize])
	return msg
}
