package duplex

import (
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// connected returns the two ends of a TCP connection.
func connected(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// copying is a Copy that runs between a client and a server.
type copying struct {
	client, server *net.TCPConn
	received, sent atomic.Int64
	broken         chan Side
}

func start(t *testing.T, idle time.Duration) *copying {
	t.Helper()
	return startWith(t, Options{Idle: idle})
}

func startWith(t *testing.T, o Options) *copying {
	t.Helper()
	client, down := connected(t)
	up, server := connected(t)
	c := &copying{client: client, server: server, broken: make(chan Side, 1)}
	o.Moved = func(received, sent int64) {
		c.received.Add(received)
		c.sent.Add(sent)
	}
	go func() {
		c.broken <- Copy(down, up, o)
		down.Close()
		up.Close()
	}()
	return c
}

func (c *copying) wait(t *testing.T) Side {
	t.Helper()
	select {
	case s := <-c.broken:
		return s
	case <-time.After(10 * time.Second):
		t.Fatal("it goes on")
		return None
	}
}

// TestHalfClose: the end of one direction is passed on, and the other goes on.
func TestHalfClose(t *testing.T) {
	c := start(t, 0)
	if _, err := io.WriteString(c.client, "question"); err != nil {
		t.Fatal(err)
	}
	_ = c.client.CloseWrite()
	if got, err := io.ReadAll(c.server); err != nil || string(got) != "question" {
		t.Fatalf("the server read %q, %v", got, err)
	}

	answer := strings.Repeat("answer", 1<<20)
	go func() {
		_, _ = io.WriteString(c.server, answer)
		_ = c.server.CloseWrite()
	}()
	if got, err := io.ReadAll(c.client); err != nil || string(got) != answer {
		t.Fatalf("the client read %d bytes, %v", len(got), err)
	}

	if broken := c.wait(t); broken != None {
		t.Errorf("side %d broke it off", broken)
	}
	if c.received.Load() != int64(len("question")) || c.sent.Load() != int64(len(answer)) {
		t.Errorf("%d received, %d sent", c.received.Load(), c.sent.Load())
	}
}

// TestBreak: a reset on one side is a reset on the other, and tells who it was.
func TestBreak(t *testing.T) {
	for _, tt := range []struct {
		name string
		side Side
	}{
		{name: "the client", side: Down},
		{name: "the server", side: Up},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := start(t, 0)
			breaks, other := c.client, c.server
			if tt.side == Up {
				breaks, other = c.server, c.client
			}
			_ = breaks.SetLinger(0)
			breaks.Close()

			if broken := c.wait(t); broken != tt.side {
				t.Errorf("side %d broke it off, want %d", broken, tt.side)
			}
			if _, err := io.ReadAll(other); err == nil {
				t.Error("the other side saw a regular end")
			}
		})
	}
}

// TestIdle: when nothing moves it ends, and nobody is at fault; also when only
// one direction is left, and it waits.
func TestIdle(t *testing.T) {
	for _, tt := range []struct {
		name string
		half bool
	}{
		{name: "both directions"},
		{name: "one direction", half: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := start(t, 200*time.Millisecond)
			if tt.half {
				_ = c.client.CloseWrite()
			}
			if broken := c.wait(t); broken != None {
				t.Errorf("side %d broke it off", broken)
			}
		})
	}
}

// TestMaxAge: a connection that is as old as it may become ends, however busy it is,
// and neither side is at fault.
func TestMaxAge(t *testing.T) {
	c := startWith(t, Options{MaxAge: 300 * time.Millisecond})
	var busy sync.WaitGroup
	for _, conn := range []net.Conn{c.client, c.server} {
		busy.Go(func() { _, _ = io.Copy(io.Discard, conn) })
		busy.Go(func() {
			for {
				if _, err := conn.Write(make([]byte, 1024)); err != nil {
					return
				}
			}
		})
	}
	if broken := c.wait(t); broken != Clock {
		t.Errorf("side %d broke it off", broken)
	}
	busy.Wait()
}
