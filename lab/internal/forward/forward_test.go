package forward_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/lab/internal/forward"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listen opens a loopback listener that the test closes.
func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// serve runs a forwarder to dial; the returned function stops it and waits.
func serve(t *testing.T, dial forward.Dial) (addr string, stop func()) {
	t.Helper()
	l := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		forward.Serve(ctx, l, dial, slog.New(slog.DiscardHandler))
	}()
	stop = func() {
		cancel()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Error("the forwarder does not end")
		}
	}
	return l.Addr().String(), stop
}

func dialTo(addr string) forward.Dial {
	return func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	}
}

func TestBothWaysAndHalfClose(t *testing.T) {
	backend := listen(t)
	want := bytes.Repeat([]byte("isthmus "), 100_000)
	go func() {
		conn, err := backend.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		// Answers only when the request has ended: needs the half close.
		body, err := io.ReadAll(conn)
		if err != nil {
			t.Error(err)
		}
		if _, err := conn.Write(body); err != nil {
			t.Error(err)
		}
	}()
	addr, stop := serve(t, dialTo(backend.Addr().String()))
	defer stop()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(want); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("got %d bytes, %v; want %d", len(got), err, len(want))
	}
}

func TestFailedDialEndsTheConnection(t *testing.T) {
	addr, stop := serve(t, func(context.Context) (net.Conn, error) { return nil, errors.New("nobody there") })
	defer stop()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); errors.Is(err, context.DeadlineExceeded) {
		t.Fatal("the connection stays open")
	}
}

func TestStopEndsIdleConnections(t *testing.T) {
	backend := listen(t)
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, err := backend.Accept()
		if err == nil {
			accepted <- conn
		}
	}()
	addr, stop := serve(t, dialTo(backend.Addr().String()))
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	far := <-accepted
	defer far.Close()
	stop()
}
