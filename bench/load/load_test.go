package load

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/proto"
)

func listen(t *testing.T) (net.Listener, netip.AddrPort) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, netip.MustParseAddrPort(l.Addr().String())
}

// serveHTTP answers with a body of the size after a delay, and with a failure
// from request number failFrom on.
func serveHTTP(t *testing.T, size int, delay time.Duration, failFrom int32) netip.AddrPort {
	t.Helper()
	l, addr := listen(t)
	var n int32
	count := make(chan int32, 1)
	count <- 0
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n = <-count + 1
		fail := failFrom > 0 && n >= failFrom
		count <- n
		time.Sleep(delay)
		if fail {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = w.Write([]byte(strings.Repeat("x", size)))
	})
	s := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	s.Protocols = new(http.Protocols)
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return addr
}

func spec(protocol string, addr netip.AddrPort, size int) Spec {
	s := Spec{Protocol: protocol, Target: addr, Authority: "bench", Path: "/", WantBody: size, Conns: 4, Streams: 1,
		Warmup: 30 * time.Millisecond, Duration: 100 * time.Millisecond}
	if protocol == HTTP2 {
		s.Streams = 3
	}
	return s
}

func TestClosed(t *testing.T) {
	for _, protocol := range []string{HTTP1, HTTP2} {
		t.Run(protocol, func(t *testing.T) {
			addr := serveHTTP(t, 1000, 0, 0)
			var started, ended bool
			s := spec(protocol, addr, 1000)
			s.AtStart = func() error { started = true; return nil }
			s.AtEnd = func() error { ended = true; return nil }
			res, err := Run(s)
			if err != nil {
				t.Fatal(err)
			}
			if res.Requests < 10 || res.Total <= res.Requests || !started || !ended {
				t.Fatalf("%+v, started %t, ended %t", res, started, ended)
			}
		})
	}
}

// TestOpen holds a server up for longer than the period: the latencies must
// show the wait of requests that had no connection.
func TestOpen(t *testing.T) {
	addr := serveHTTP(t, 10, 20*time.Millisecond, 0)
	s := spec(HTTP1, addr, 10)
	s.Conns, s.Rate = 1, 100 // one every 10 ms, each takes 20 ms
	s.Warmup, s.Duration = 100*time.Millisecond, 200*time.Millisecond
	res, err := Run(s)
	if err != nil {
		t.Fatal(err)
	}
	if p99 := res.Quantile(0.99); p99 < 60*time.Millisecond {
		t.Fatalf("p99 is %s: the wait for a connection was left out", p99)
	}
	s.Conns = 4
	if res, err = Run(s); err != nil {
		t.Fatal(err)
	}
	if r := res.Rate(); r < 70 || r > 130 {
		t.Fatalf("%.0f requests/s, want 100", r)
	}
}

func TestGRPC(t *testing.T) {
	l, addr := listen(t)
	g := grpc.NewServer()
	grpc_testing.RegisterBenchmarkServiceServer(g, echo{})
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	body, err := proto.Marshal(&grpc_testing.SimpleRequest{Payload: &grpc_testing.Payload{Body: make([]byte, 500)}})
	if err != nil {
		t.Fatal(err)
	}
	s := spec(GRPC, addr, 5+len(body))
	s.Path, s.Body, s.Streams = "/grpc.testing.BenchmarkService/UnaryCall", body, 8
	res, err := Run(s)
	if err != nil {
		t.Fatal(err)
	}
	if res.Requests < 10 {
		t.Fatalf("%d requests", res.Requests)
	}
	s.Path = "/grpc.testing.BenchmarkService/NoSuchCall"
	if _, err := Run(s); err == nil {
		t.Fatal("a call that fails was taken for an answer")
	}
}

type echo struct {
	grpc_testing.UnimplementedBenchmarkServiceServer
}

func (echo) UnaryCall(_ context.Context, r *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	return &grpc_testing.SimpleResponse{Payload: r.GetPayload()}, nil
}

func TestWrongAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		size     int
		failFrom int32
		want     string
	}{
		"status": {100, 5, "503"},
		"size":   {99, 0, "want"},
	} {
		for _, protocol := range []string{HTTP1, HTTP2} {
			t.Run(name+" "+protocol, func(t *testing.T) {
				_, err := Run(spec(protocol, serveHTTP(t, c.size, 0, c.failFrom), 100))
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("error %v, want one with %q", err, c.want)
				}
			})
		}
	}
}

func TestHold(t *testing.T) {
	addr := serveHTTP(t, 10, 0, 0)
	s := spec(HTTP1, addr, 10)
	s.Conns = 50
	idle, err := Hold(s)
	if err != nil {
		t.Fatal(err)
	}
	idle.Close()
	s.WantBody = 11
	if _, err := Hold(s); err == nil {
		t.Fatal("wrong answers were taken")
	}
}

// TestSplitInput feeds answers byte by byte.
func TestSplitInput(t *testing.T) {
	s := Spec{Protocol: HTTP1, Authority: "a", Path: "/", WantBody: 5, Streams: 1}
	h := newHTTP1(&s)
	answer := "HTTP/1.1 200 OK\r\nX: y\r\ncontent-LENGTH: 5\r\n\r\nhello"
	for round := range 3 {
		if wire := string(h.request(nil, time.Duration(round))); !strings.HasPrefix(wire, "GET / HTTP/1.1\r\nHost: a\r\n") {
			t.Fatalf("request %q", wire)
		}
		answered := 0
		for i := range len(answer) {
			if _, err := h.input([]byte(answer[i:i+1]), nil, func(due time.Duration) {
				answered++
				if due != time.Duration(round) {
					t.Errorf("due %d, want %d", due, round)
				}
			}); err != nil {
				t.Fatal(err)
			}
		}
		if answered != 1 || h.free() != 1 {
			t.Fatalf("round %d: %d answers, %d free", round, answered, h.free())
		}
	}
}

// TestHeaderBlockSettles looks at the header block: from some request on it is
// always the same, and short.
func TestHeaderBlockSettles(t *testing.T) {
	s := Spec{Protocol: HTTP2, Authority: "server.example:80", Path: "/a/long/path/that/is/not/in/the/table", Streams: 100}
	h, err := newHTTP2(&s)
	if err != nil {
		t.Fatal(err)
	}
	first := len(h.request(nil, 0))
	h.request(nil, 0)
	h.request(nil, 0)
	if h.steady == nil {
		t.Fatal("the header block did not settle")
	}
	if again := len(h.request(nil, 0)); again >= first || again > 9+10 {
		t.Fatalf("a request takes %d bytes, the first took %d", again, first)
	}
	if !strings.HasPrefix(string(h.hello()), http2.ClientPreface) {
		t.Fatal("no preface")
	}
}
