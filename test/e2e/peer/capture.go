package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// capture listens on every interface of its network namespace until ctx ends,
// and prints how many IPv4 TCP segments to or from a port carried a payload, and
// how many of them held the text. It sees what anybody on the path sees; a text
// that is cut in two by segments is not found.
func capture(ctx context.Context, port uint16, text string) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, int(networkOrder(unix.ETH_P_ALL)))
	if err != nil {
		return fmt.Errorf("open a packet socket (this needs root): %w", err)
	}
	defer func() { _ = unix.Close(fd) }()

	timeout := unix.NsecToTimeval((200 * time.Millisecond).Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return err
	}
	fmt.Println("listening")

	segments, hits := 0, 0
	packet := make([]byte, 1<<16)
	for ctx.Err() == nil {
		n, _, err := unix.Recvfrom(fd, packet, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read packets: %w", err)
		}

		payload, ok := tcpPayload(packet[:n], port)
		if !ok || len(payload) == 0 {
			continue
		}
		segments++
		if bytes.Contains(payload, []byte(text)) {
			hits++
		}
	}
	fmt.Printf("port %d: %d segments, %d with the text\n", port, segments, hits)
	return nil
}

// tcpPayload is what an IPv4 packet carries to or from a TCP port (RFC 791
// section 3.1, RFC 9293 section 3.1).
func tcpPayload(packet []byte, port uint16) ([]byte, bool) {
	if len(packet) < 20 || packet[0]>>4 != 4 || packet[9] != unix.IPPROTO_TCP {
		return nil, false
	}
	header, total := int(packet[0]&0xf)*4, int(binary.BigEndian.Uint16(packet[2:]))
	if total > len(packet) || header+20 > total {
		return nil, false
	}

	tcp := packet[header:total]
	from, to := binary.BigEndian.Uint16(tcp), binary.BigEndian.Uint16(tcp[2:])
	offset := int(tcp[12]>>4) * 4
	if from != port && to != port || offset > len(tcp) {
		return nil, false
	}
	return tcp[offset:], true
}

func networkOrder(v uint16) uint16 { return v<<8 | v>>8 }
