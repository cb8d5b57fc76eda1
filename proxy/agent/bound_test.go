package agent

import (
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// TestNewestFirst: whoever holds connections to the agent's ports does not keep
// the kubelet out.
func TestNewestFirst(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newNewestFirst(inner, 3)
	srv := &http.Server{Handler: boundBody(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ready") }))}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	defer func() {
		srv.Close()
		<-done
	}()

	var held []net.Conn
	for range 5 {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		held = append(held, c)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	resp, err := client.Get("http://" + inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for i, c := range held {
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		_, err := c.Read(make([]byte, 1))
		if closed := err == io.EOF; i < 3 && !closed {
			t.Errorf("connection %d, one of the oldest, is still open: %v", i, err)
		}
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		l.mu.Lock()
		n := l.open.Len()
		l.mu.Unlock()
		if n <= 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are held, of which one has ended", n)
		}
	}
}
