package httpproxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	nethttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/isthmus-mesh/isthmus/internal/jwks"
	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
	"github.com/isthmus-mesh/isthmus/proxy/http2"
	"github.com/isthmus-mesh/isthmus/proxy/jwt/jwttest"
	"github.com/isthmus-mesh/isthmus/proxy/mtls"
	"github.com/isthmus-mesh/isthmus/proxy/mtls/mtlstest"
)

// The benchmarks run the proxy in a process of its own, so that its CPU time is told apart from that of the load.
// They report proxy-µs/req (user and system time) and proxy-allocs/req.

const benchRole = "HTTPPROXY_BENCH"

// benchRequest configures the proxy process.
type benchRequest struct {
	Backend string
	H2      bool
	TwoHops bool   // with mTLS between them
	Keys    string // a key set by which tokens are verified; "" verifies none
	Rules   int    // how many policies each request is held against; the last one lets it pass
	Profile string
}

type benchUsage struct {
	Addr    string
	CPU     time.Duration
	Mallocs uint64
}

// TestBenchProxy is the proxy process: it serves until its standard input ends, and answers each line with its
// resource usage.
func TestBenchProxy(t *testing.T) {
	if os.Getenv(benchRole) == "" {
		t.Skip("runs in the benchmarks' child process only")
	}
	var req benchRequest
	if err := json.Unmarshal([]byte(os.Getenv(benchRole)), &req); err != nil {
		t.Fatal(err)
	}
	proto := config.HTTP1
	if req.H2 {
		proto = config.HTTP2
	}
	hcm := config.HCM{Routes: toCluster("c"), GenerateRequestID: true, ServerName: "istio-envoy"}
	if req.Keys != "" {
		hcm.Tokens = benchTokens(t, req.Keys)
	}
	if req.Rules > 0 {
		hcm.Access = benchRules(req.Rules)
	}
	last := setup{hcm: hcm, clusters: []*config.Cluster{staticCluster("c", proto, req.Backend)}}
	addr := ""
	if req.TwoHops {
		addr = twoHops(t, last, proto)
	} else {
		addr = startHop(t, last).addr
	}
	if req.Profile != "" {
		f, err := os.Create(req.Profile)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		_ = pprof.StartCPUProfile(f)
		defer pprof.StopCPUProfile()
	}
	in := bufio.NewScanner(os.Stdin)
	for {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		var ru syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
		b, _ := json.Marshal(benchUsage{addr, time.Duration(ru.Utime.Nano() + ru.Stime.Nano()), m.Mallocs})
		fmt.Printf("USAGE %s\n", b)
		if !in.Scan() {
			return
		}
	}
}

// benchTokens verifies tokens of one issuer; a request may have none.
func benchTokens(t testing.TB, keys string) *config.TokenFilter {
	set, err := jwks.Parse([]byte(keys))
	if err != nil {
		t.Fatal(err)
	}
	return &config.TokenFilter{
		Providers: []config.TokenProvider{{
			Issuer: "iss", Keys: set, Headers: []config.TokenHeader{{Name: "authorization", Prefix: "Bearer "}}, Params: []string{"access_token"},
		}},
		Require: config.TokenRequirement{Kind: config.RequireAny, Of: []config.TokenRequirement{{Kind: config.RequireProvider}, {Kind: config.RequireMissing}}},
	}
}

// benchRules are n policies that ask for a method and a path. The request of h1Load satisfies the last one alone.
func benchRules(n int) []*config.AccessFilter {
	rules := &config.AccessRules{}
	for i := range n {
		prefix := fmt.Sprintf("/path/to/thing%d", i)
		if i == n-1 {
			prefix = "/path/to/thing"
		}
		rules.Policies = append(rules.Policies, config.AccessPolicy{
			Name: fmt.Sprintf("policy-%03d", i),
			Test: config.AccessTest{Kind: config.AccessAll, Of: []config.AccessTest{
				{Kind: config.AccessHeader, Header: config.HeaderMatch{Name: ":method", Value: config.StringMatch{Kind: config.MatchExact, Value: "GET"}}},
				{Kind: config.AccessPath, Text: config.StringMatch{Kind: config.MatchPrefix, Value: prefix}},
			}},
		})
	}
	return []*config.AccessFilter{{Rules: rules}}
}

// meshTLS are the contexts of a client and a server sidecar.
func meshTLS(ca *mtlstest.CA, proto config.HTTPProtocol) (*config.UpstreamTLS, *config.DownstreamTLS) {
	alpn := []string{"istio-http/1.1", "istio"}
	if proto == config.HTTP2 {
		alpn = []string{"istio-h2", "istio", "h2"}
	}
	roots := config.TrustRoots{Source: config.CertMesh}
	return &config.UpstreamTLS{Cert: config.CertMesh, Roots: roots, ALPN: alpn, SNI: "outbound_.80_._.a"},
		&config.DownstreamTLS{Cert: config.CertMesh, Roots: roots, ALPN: []string{"istio-http/1.1", "istio-h2", "istio"}, RequireClientCert: true}
}

// twoHops starts a client and a server sidecar with mTLS between them and returns the client's address.
func twoHops(t testing.TB, last setup, proto config.HTTPProtocol) string {
	ca := mtlstest.NewCA(t, "root")
	up, down := meshTLS(ca, proto)
	server, err := mtls.NewServer(down, ca.Identity("spiffe://cluster.local/ns/bar/sa/server"), nil)
	if err != nil {
		t.Fatal(err)
	}
	last.tls = func(offered []string) *tls.Config { return server.Config(offered) }
	last.hcm.ForwardClientCert = config.ForwardClientCertSanitizeSet
	last.hcm.ClientCertDetails = config.ClientCertDetails{Subject: true, URI: true}
	last.info = func(i *downstream.Info) { i.Direction = config.DirectionInbound }
	inbound := startHop(t, last)
	cluster := staticCluster("c", proto, inbound.addr)
	cluster.Transport = config.Transport{Name: "tls", TLS: up}
	first := setup{
		hcm:      config.HCM{Routes: toCluster("c"), GenerateRequestID: true, ServerName: "istio-envoy"},
		clusters: []*config.Cluster{cluster}, identity: ca.Identity("spiffe://cluster.local/ns/foo/sa/client"),
	}
	return startHop(t, first).addr
}

// benchProxy runs the child process.
type benchProxy struct {
	b    *testing.B
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
	last benchUsage
}

func startBenchProxy(b *testing.B, req benchRequest) *benchProxy {
	req.Profile = os.Getenv("HTTPPROXY_PROFILE")
	env, _ := json.Marshal(req)
	cmd := exec.Command(os.Args[0], "-test.run=^TestBenchProxy$", "-test.v")
	cmd.Env = append(os.Environ(), benchRole+"="+string(env), "GOMAXPROCS=2")
	cmd.Stderr = os.Stderr
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	p := &benchProxy{b: b, cmd: cmd, in: in, out: bufio.NewScanner(out)}
	p.read()
	b.Cleanup(func() {
		_ = in.Close()
		for p.out.Scan() {
		}
		_ = cmd.Wait()
	})
	return p
}

func (p *benchProxy) read() benchUsage {
	for p.out.Scan() {
		if rest, ok := strings.CutPrefix(p.out.Text(), "USAGE "); ok {
			if err := json.Unmarshal([]byte(rest), &p.last); err != nil {
				p.b.Fatal(err)
			}
			return p.last
		}
	}
	p.b.Fatal("the proxy process ended")
	return p.last
}

func (p *benchProxy) usage() benchUsage {
	fmt.Fprintln(p.in)
	return p.read()
}

const benchConns = 32

// measure runs load(n) with n requests and reports what they cost the proxy.
func (p *benchProxy) measure(load func(n int)) {
	load(2000) // connections, pools, series
	before := p.usage()
	p.b.ResetTimer()
	load(p.b.N)
	p.b.StopTimer()
	after := p.usage()
	n := float64(p.b.N)
	p.b.ReportMetric(float64((after.CPU-before.CPU).Microseconds())/n, "proxy-µs/req")
	p.b.ReportMetric(float64(after.Mallocs-before.Mallocs)/n, "proxy-allocs/req")
}

// h1Backend answers every request with body.
func h1Backend(t testing.TB, body int) string {
	answer := []byte(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Length: %d\r\n\r\n%s", body, strings.Repeat("x", body)))
	return rawBackend(t, func(c net.Conn) {
		buf := make([]byte, 4096)
		n := 0
		for {
			k, err := c.Read(buf[n:])
			if err != nil {
				return
			}
			if n += k; bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
				n = 0
				if _, err := c.Write(answer); err != nil {
					return
				}
			}
		}
	})
}

// h1Load sends requests with the fields that are given, each with its line end.
func h1Load(b *testing.B, addr string, body int, fields ...string) func(int) {
	conns := make([]net.Conn, benchConns)
	for i := range conns {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = c.Close() })
		conns[i] = c
	}
	request := []byte("GET /path/to/thing?x=1 HTTP/1.1\r\nHost: server.bar.svc.cluster.local:8000\r\nUser-Agent: fortio.org/fortio-1.60\r\nAccept: */*\r\n" + strings.Join(fields, "") + "\r\n")
	return func(n int) {
		var left atomic.Int64
		left.Store(int64(n))
		var wg sync.WaitGroup
		for _, c := range conns {
			wg.Add(1)
			go func() {
				defer wg.Done()
				buf := make([]byte, 64<<10)
				for left.Add(-1) >= 0 {
					if _, err := c.Write(request); err != nil {
						b.Error(err)
						return
					}
					got := 0
					for {
						k, err := c.Read(buf[got:])
						if err != nil {
							b.Error(err)
							return
						}
						got += k
						if i := bytes.Index(buf[:got], []byte("\r\n\r\n")); i >= 0 && got >= i+4+body {
							break
						}
					}
				}
			}()
		}
		wg.Wait()
	}
}

func BenchmarkHTTP1OneHop(b *testing.B) {
	p := startBenchProxy(b, benchRequest{Backend: h1Backend(b, 1024)})
	p.measure(h1Load(b, p.last.Addr, 1024))
}

// BenchmarkHTTP1Token is BenchmarkHTTP1OneHop with a token (RS256) that is verified: the difference is its price. Plain
// sends the same request to a proxy that looks at no tokens.
func BenchmarkHTTP1Token(b *testing.B) {
	issuer := jwttest.NewIssuer(b, jose.RS256, "k")
	token := issuer.Token(map[string]any{"iss": "iss", "sub": "me", "exp": time.Now().Add(time.Hour).Unix(), "groups": []string{"a", "b"}})
	for name, keys := range map[string]string{"plain": "", "verified": jwttest.JWKS(b, issuer)} {
		b.Run(name, func(b *testing.B) {
			p := startBenchProxy(b, benchRequest{Backend: h1Backend(b, 1024), Keys: keys})
			p.measure(h1Load(b, p.last.Addr, 1024, "Authorization: Bearer "+token+"\r\n"))
		})
	}
}

// BenchmarkHTTP1Rules is BenchmarkHTTP1OneHop with policies that are asked about each request: the difference between
// none and a hundred is their price.
func BenchmarkHTTP1Rules(b *testing.B) {
	for _, rules := range []int{0, 100} {
		b.Run(strconv.Itoa(rules), func(b *testing.B) {
			p := startBenchProxy(b, benchRequest{Backend: h1Backend(b, 1024), Rules: rules})
			p.measure(h1Load(b, p.last.Addr, 1024))
		})
	}
}

func BenchmarkHTTP1TwoHopsMTLS(b *testing.B) {
	p := startBenchProxy(b, benchRequest{Backend: h1Backend(b, 1024), TwoHops: true})
	p.measure(h1Load(b, p.last.Addr, 1024))
}

// echoSink answers a gRPC call with a message and trailers.
type echoSink struct{ st *http2.Stream }

func (e *echoSink) Headers(_ []hpack.HeaderField, end bool) {
	if end {
		e.answer()
	}
}
func (e *echoSink) Data(p []byte, end bool) {
	e.st.Credit(len(p))
	if end {
		e.answer()
	}
}
func (e *echoSink) Reset(nethttp2.ErrCode, bool) {}
func (e *echoSink) answer() {
	e.st.SendHeaders([]hpack.HeaderField{{Name: ":status", Value: "200"}, {Name: "content-type", Value: "application/grpc"}}, false)
	e.st.Send(make([]byte, 64), false)
	e.st.SendTrailers([]hpack.HeaderField{{Name: "grpc-status", Value: "0"}, {Name: "grpc-message", Value: ""}})
}

func h2Backend(t testing.TB) string {
	return rawBackend(t, func(conn net.Conn) {
		c := http2.NewServer(conn, http2.NewHeld(), http2.ServerOptions{
			NewSink: func(st *http2.Stream) http2.Sink { return &echoSink{st} },
			Accept: func(s http2.Sink, h *http2.Head) {
				if h.End {
					s.(*echoSink).answer()
				}
			},
		})
		done := make(chan struct{})
		go func() { defer close(done); c.WriteLoop() }()
		_ = c.Serve()
		<-done
	})
}

// callSink waits for the end of a call.
type callSink struct {
	st   *http2.Stream
	done chan bool
}

func (s *callSink) Headers(_ []hpack.HeaderField, end bool) {
	if end {
		s.done <- true
	}
}
func (s *callSink) Data(p []byte, _ bool)        { s.st.Credit(len(p)) }
func (s *callSink) Reset(nethttp2.ErrCode, bool) { s.done <- false }

// h2Load makes unary gRPC calls: 4 connections with 8 calls at a time each.
func h2Load(b *testing.B, addr string) func(int) {
	var conns []*http2.Conn
	for range 4 {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		c := http2.NewClient(conn, http2.NewHeld(), http2.ClientOptions{})
		go c.WriteLoop()
		done := make(chan struct{})
		go func() { defer close(done); _ = c.Serve() }()
		b.Cleanup(func() { c.Retire(); <-done })
		conns = append(conns, c)
	}
	fields := []hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"},
		{Name: ":authority", Value: "server.bar.svc.cluster.local:9000"}, {Name: ":path", Value: "/pkg.Service/Method"},
		{Name: "content-type", Value: "application/grpc"}, {Name: "user-agent", Value: "grpc-go/1.85.0"}, {Name: "te", Value: "trailers"},
	}
	return func(n int) {
		var left atomic.Int64
		left.Store(int64(n))
		var wg sync.WaitGroup
		for i := range benchConns {
			wg.Add(1)
			go func() {
				defer wg.Done()
				s := &callSink{done: make(chan bool, 1)}
				msg := make([]byte, 64)
				for left.Add(-1) >= 0 {
					c := conns[i%len(conns)]
					st, err := c.Open(fields, false, s, nil, 0)
					if err != nil {
						b.Error(err)
						return
					}
					s.st = st
					st.Send(msg, true)
					if !<-s.done {
						b.Error("a call failed")
						return
					}
				}
			}()
		}
		wg.Wait()
	}
}

func BenchmarkGRPCOneHop(b *testing.B) {
	p := startBenchProxy(b, benchRequest{Backend: h2Backend(b), H2: true})
	p.measure(h2Load(b, p.last.Addr))
}

func BenchmarkGRPCTwoHopsMTLS(b *testing.B) {
	p := startBenchProxy(b, benchRequest{Backend: h2Backend(b), H2: true, TwoHops: true})
	p.measure(h2Load(b, p.last.Addr))
}
