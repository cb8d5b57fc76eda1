package discovery

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes/fake"

	"github.com/isthmus-mesh/isthmus/ca"
)

// startHTTP serves a handler as discovery does, until the test ends.
func startHTTP(t *testing.T, h http.Handler, tlsConfig *tls.Config) (addr string) {
	t.Helper()
	addr, stop := startStoppableHTTP(t, h, tlsConfig)
	t.Cleanup(stop)
	return addr
}

// startStoppableHTTP serves until stop is called, which returns when the server
// has ended.
func startStoppableHTTP(t *testing.T, h http.Handler, tlsConfig *tls.Config) (addr string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = l.Addr().String()
	if tlsConfig != nil {
		l = tlsListener(l, tlsConfig)
	}
	s := &Server{cfg: Config{Drain: time.Second}, log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.serveHTTP(ctx, l, h) }()
	return addr, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestCallsUnderWayAreAnswered: a server that stops ends when its calls have, and
// not at once. The control plane's process ended with them unanswered.
func TestCallsUnderWayAreAnswered(t *testing.T) {
	reached, answer := make(chan struct{}), make(chan struct{})
	addr, stop := startStoppableHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(reached)
		<-answer
		_, _ = io.WriteString(w, "answered")
	}), nil)

	body := make(chan string, 1)
	go func() {
		resp, err := http.Get("http://" + addr)
		if err != nil {
			body <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		body <- string(b)
	}()
	<-reached

	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stop()
	}()
	select {
	case <-stopped:
		t.Error("the server ended with a call under way")
	case <-time.After(200 * time.Millisecond):
	}
	close(answer)
	if got := <-body; got != "answered" {
		t.Errorf("the call got %q", got)
	}
	<-stopped
}

// CVE-2026-97032: any client that was given HTTP/2 on the webhooks' port could
// end the process, by a fault in net/http that we do not own.
func TestWebhooksSpeakNoHTTP2(t *testing.T) {
	authority, err := ca.Load(t.Context(), fake.NewClientset(), ca.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ok := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) })
	addr := startHTTP(t, ok, authority.WebhookTLS([]string{"istiod.istio-system.svc"}))

	dial := func(protocols ...string) (*tls.Conn, error) {
		return tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols})
	}
	if c, err := dial("h2"); err == nil {
		t.Errorf("a client that speaks h2 alone was taken, as %q", c.ConnectionState().NegotiatedProtocol)
		c.Close()
	}

	c, err := dial("h2", "http/1.1")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := c.ConnectionState().NegotiatedProtocol; got != "http/1.1" {
		t.Errorf("protocol %q was agreed, want http/1.1", got)
	}
	answer := exchange(t, c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 200 ") {
		t.Errorf("HTTP/1.1 over TLS: %q", answer)
	}
}

func TestControlHTTPSpeaksNoHTTP2InPlaintext(t *testing.T) {
	var reached string
	addr := startHTTP(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { reached = r.Proto }), nil)
	for name, first := range map[string]string{
		"prior knowledge": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
		"upgrade":         "GET / HTTP/1.1\r\nHost: x\r\nConnection: close, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n",
	} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		answer := exchange(t, c, first)
		c.Close()
		if !strings.HasPrefix(answer, "HTTP/1.1 ") || strings.HasPrefix(answer, "HTTP/1.1 101") || reached == "HTTP/2.0" {
			t.Errorf("%s: answered %q, and the handler saw %q", name, answer, reached)
		}
	}
}

func TestControlHTTPIsBounded(t *testing.T) {
	srv := newHTTPServer(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	for name, d := range map[string]time.Duration{
		"head": srv.ReadHeaderTimeout, "answer": srv.WriteTimeout, "idle": srv.IdleTimeout,
	} {
		if d <= 0 || d > 2*time.Minute {
			t.Errorf("the time for the %s is %v", name, d)
		}
	}

	read := make(chan error, 1)
	addr := startHTTP(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		read <- err
	}), nil)
	resp, err := http.Post("http://"+addr, "text/plain", io.LimitReader(endless{}, httpBodyBytes+1))
	if err == nil {
		resp.Body.Close()
	}
	if err := <-read; err == nil {
		t.Errorf("a body of more than %d bytes was taken", httpBodyBytes)
	}

	req, err := http.NewRequest(http.MethodGet, "http://"+addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Long", strings.Repeat("x", 2*httpHeaderBytes))
	resp, err = http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a head of %d KiB was answered %s", 2*httpHeaderBytes>>10, resp.Status)
	}
}

func TestBodyMustComeInTime(t *testing.T) {
	const limit = 50 * time.Millisecond
	read := make(chan error, 1)
	addr := startHTTP(t, bodyWithin(limit, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 {
			// A handler that takes longer is not ended.
			time.Sleep(4 * limit)
			read <- r.Context().Err()
			return
		}
		_, err := io.Copy(io.Discard, r.Body)
		read <- err
	})), nil)

	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-read:
		if err == nil {
			t.Error("half a body was taken for a whole one")
		}
	case <-time.After(20 * time.Second):
		t.Error("a body that does not come is waited for")
	}

	resp, err := http.Get("http://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if err := <-read; err != nil {
		t.Errorf("a handler that takes long was ended: %v", err)
	}
}

// endless reads as zeros.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// exchange writes, and reads what comes back within 20 s.
func exchange(t *testing.T, c net.Conn, send string) string {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, send); err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(c) // cut off is an answer, too
	return string(answer)
}
