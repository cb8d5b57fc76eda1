package httpproxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	"google.golang.org/grpc/interop/grpc_testing"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

func TestTransferHTTP2(t *testing.T)        { transfers(t, config.HTTP2, true) }
func TestTransferHTTP2ToHTTP1(t *testing.T) { transfers(t, config.HTTP1, true) }
func TestTransferHTTP1ToHTTP2(t *testing.T) { transfers(t, config.HTTP2, false) }

// protocols are the combinations of downstream and upstream protocol.
var protocols = []struct {
	name string
	down bool // HTTP/2
	up   config.HTTPProtocol
}{
	{
		name: "1 to 1",
		down: false,
		up:   config.HTTP1,
	},
	{
		name: "1 to 2",
		down: false,
		up:   config.HTTP2,
	},
	{
		name: "2 to 1",
		down: true,
		up:   config.HTTP1,
	},
	{
		name: "2 to 2",
		down: true,
		up:   config.HTTP2,
	},
	{
		name: "2 to same",
		down: true,
		up:   config.HTTPUseDownstream,
	},
	{
		name: "1 to same",
		down: false,
		up:   config.HTTPUseDownstream,
	},
}

func TestBridging(t *testing.T) {
	addr := backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-After")
		w.Header().Set("X-Proto", r.Proto)
		if r.URL.Path == "/204" {
			w.WriteHeader(204)
			return
		}
		fmt.Fprintf(w, "%s %s %s %s %s %s", r.Method, r.Host, r.URL, body, r.Trailer.Get("X-Sum"), r.Header.Get("Cookie"))
		w.Header().Set("X-After", "done")
	}))
	for _, tt := range protocols {
		t.Run(tt.name, func(t *testing.T) {
			h := simpleHop(t, tt.up, addr)
			c := client(t, h.addr, tt.down)
			for i := range 3 {
				req, _ := http.NewRequest("POST", "http://server.bar:8000/x?y=z", io.NopCloser(strings.NewReader("hello")))
				req.Header.Set("Cookie", "a=b; c=d")
				req.Trailer = http.Header{"X-Sum": {"42"}}
				resp, err := c.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if want := "POST server.bar:8000 /x?y=z hello 42 a=b; c=d"; err != nil || string(got) != want {
					t.Errorf("%d: got %q, want %q (%v)", i, got, want, err)
				}
				if resp.Trailer.Get("X-After") != "done" {
					t.Errorf("%d: trailers %v", i, resp.Trailer)
				}
				wantProto := "HTTP/1.1"
				if tt.up == config.HTTP2 || tt.up == config.HTTPUseDownstream && tt.down {
					wantProto = "HTTP/2.0"
				}
				if p := resp.Header.Get("X-Proto"); p != wantProto {
					t.Errorf("the endpoint saw %s, want %s", p, wantProto)
				}
				for _, path := range []string{"/204", "/head"} {
					m := "GET"
					if path == "/head" {
						m = "HEAD"
					}
					req, _ := http.NewRequest(m, "http://a"+path, nil)
					resp, err := c.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					if b, err := io.ReadAll(resp.Body); len(b) > 0 || err != nil {
						t.Errorf("%s %s: %q %v", m, path, b, err)
					}
					resp.Body.Close()
				}
			}
		})
	}
}

// grpcBackend serves the gRPC interoperability test service.
func grpcBackend(t testing.TB) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	grpc_testing.RegisterTestServiceServer(srv, interop.NewTestServer())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(ln)
	}()
	t.Cleanup(func() {
		srv.Stop()
		<-done
	})
	return ln.Addr().String()
}

func grpcClient(t testing.TB, addr string) grpc_testing.TestServiceClient {
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return grpc_testing.NewTestServiceClient(conn)
}

func TestGRPC(t *testing.T) {
	h := simpleHop(t, config.HTTP2, grpcBackend(t))
	c := grpcClient(t, h.addr)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for name, run := range map[string]func(context.Context, grpc_testing.TestServiceClient, ...grpc.CallOption){
		"empty": interop.DoEmptyUnaryCall, "large": interop.DoLargeUnaryCall,
		"client streaming": interop.DoClientStreaming, "server streaming": interop.DoServerStreaming,
		"ping pong": interop.DoPingPong, "empty stream": interop.DoEmptyStream,
		"timeout":                     interop.DoTimeoutOnSleepingServer,
		"cancel after first response": interop.DoCancelAfterFirstResponse,
		"status and message":          interop.DoStatusCodeAndMessage, "special status": interop.DoSpecialStatusMessage,
		"metadata": interop.DoCustomMetadata,
	} {
		t.Run(name, func(*testing.T) { run(ctx, c) })
	}
}
