package listen

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

func TestQuietEnough(t *testing.T) {
	for _, tt := range []struct{ draining, want time.Duration }{
		{0, 500 * time.Millisecond},
		{2 * time.Second, 100 * time.Millisecond},
		{4 * time.Second, 25 * time.Millisecond},
		{time.Hour, 25 * time.Millisecond},
	} {
		if got := quietEnough(tt.draining); got != tt.want {
			t.Errorf("after %s: %s, want %s", tt.draining, got, tt.want)
		}
	}
}

// ended waits until a connection's other end has closed it, in good order.
func ended(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := c.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read %d bytes, %v; want the end", n, err)
	}
}

// TestQuietConnectionsEnd: a TCP connection that a draining proxy passes on ends
// when nothing moves on it, and not in the middle of an answer; a sidecar that
// drains for its callers leaves it alone.
func TestQuietConnectionsEnd(t *testing.T) {
	// More than all buffers on the way take: the proxy has some of it left until
	// the client reads.
	const size = 64 << 20
	s := newSide(t, nil)
	s.static("long", nil, serve(t, func(c *net.TCPConn) {
		_, _ = io.Copy(c, io.LimitReader(zeros{}, size)) // the client tells what is missing
	}))
	s.static("echo", nil, serve(t, echo))
	s.listen(tcpListener("busy", toCluster("long")), tcpListener("quiet", toCluster("echo")))
	busyAt, _ := s.m.Addr("busy")
	quietAt, _ := s.m.Addr("quiet")

	busy := dial(t, busyAt)
	_ = busy.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadFull(busy, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	quiet := dial(t, quietAt)
	say(t, quiet, "hello")

	s.m.DrainInbound()
	say(t, quiet, "still there")

	s.m.Drain()
	ended(t, quiet)
	_ = busy.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := io.Copy(io.Discard, busy); err != nil || n != size-1 {
		t.Errorf("%d bytes came, %v; want %d", n, err, size-1)
	}
}

// zeros is an endless source.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// say sends a word over an echo.
func say(t *testing.T, c net.Conn, word string) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, word); err != nil {
		t.Fatal(err)
	}
	back := make([]byte, len(word))
	if _, err := io.ReadFull(c, back); err != nil || string(back) != word {
		t.Fatalf("it says %q, %v", back, err)
	}
}
