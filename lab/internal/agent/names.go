package agent

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net"
)

const (
	dnsHeaderLen = 12
	// Bits of the second 16-bit word of a DNS header, RFC 1035 section 4.1.1.
	dnsResponse    = 1 << 15
	dnsOpcodeAndRD = 0xf<<11 | 1<<8
	dnsRA          = 1 << 7
	dnsNameError   = 3
)

// serveNames answers the clusters' name servers, on UDP port 53 of the fabric,
// that no name exists outside the clusters. Without it every such question
// would run into a time-out.
func serveNames(ctx context.Context, log *slog.Logger) {
	conn, err := net.ListenPacket("udp4", ":53")
	if err != nil {
		log.Error("names outside the clusters fail slowly", "error", err)
		return
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()

	buf := make([]byte, 64<<10)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if reply := denyName(buf[:n]); reply != nil {
			// A lost reply is asked for again.
			_, _ = conn.WriteTo(reply, from)
		}
	}
}

// denyName turns a DNS query into the answer that its name does not exist, or
// returns nil for what is no query. The question is repeated; other sections,
// such as EDNS, are dropped.
func denyName(q []byte) []byte {
	if len(q) < dnsHeaderLen {
		return nil
	}

	flags := binary.BigEndian.Uint16(q[2:])
	if flags&dnsResponse != 0 || binary.BigEndian.Uint16(q[4:]) != 1 {
		return nil
	}

	end := questionEnd(q)
	if end < 0 {
		return nil
	}

	reply := append([]byte{}, q[:end]...)
	binary.BigEndian.PutUint16(reply[2:], dnsResponse|flags&dnsOpcodeAndRD|dnsRA|dnsNameError)
	clear(reply[6:dnsHeaderLen])
	return reply
}

// questionEnd is the offset behind the single question of a query, or -1.
func questionEnd(q []byte) int {
	for i := dnsHeaderLen; i < len(q); {
		label := int(q[i])
		if label >= 0xc0 { // a pointer has no place in a first question
			return -1
		}
		i += 1 + label
		if label == 0 {
			if i+4 > len(q) {
				return -1
			}
			return i + 4
		}
	}
	return -1
}
