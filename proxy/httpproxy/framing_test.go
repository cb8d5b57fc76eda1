package httpproxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
)

// recorder is a backend that keeps what it is sent, byte for byte, up to an empty line and a body that ends in "END"
// or is not there.
func recorder(t *testing.T, got chan<- string) string {
	return rawBackend(t, func(c net.Conn) {
		br := bufio.NewReader(c)
		var all strings.Builder
		for {
			line, err := br.ReadString('\n')
			if err != nil {
				return
			}
			all.WriteString(line)
			text := all.String()
			if line != "\r\n" || strings.Contains(strings.ToLower(text), "chunked") && !strings.HasSuffix(text, "\r\n0\r\n\r\n") {
				continue
			}
			got <- text
			all.Reset()
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
}

// TestRefusedSpellings sends requests of which parsers differ about the end or the target: each is refused with 400,
// unless the row says otherwise, and nothing reaches the endpoint.
func TestRefusedSpellings(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: a\r\n"
	const chunked = post + "Transfer-Encoding: chunked\r\n"
	got := make(chan string, 1000)
	h := simpleHop(t, config.HTTP1, recorder(t, got))
	rows := map[string]string{}
	add := func(name, send string) { rows[name] = send }

	for _, v := range []string{
		"chunked, identity", "chunked, gzip", "gzip", "identity", "chunked;q=1", "\"chunked\"", "chunked,", ",chunked",
		"chunked, chunked", "x chunked", "chunked x", "chunke", "chunkedx", "CHUNKED\tx", "\x0cchunked", "chunked\x00", "",
	} {
		if v == ",chunked" || v == "chunked, chunked" {
			continue // these end in chunked: 501, see TestSmuggling
		}
		add("coding "+v, post+"Transfer-Encoding: "+v+"\r\n\r\n0\r\n\r\n")
	}
	for _, name := range []string{
		"Transfer-Encoding ", "Transfer-Encoding\t", " Transfer-Encoding", "Transfer-Encoding\x00", "Transfer\x0bEncoding",
		"Content-Length ", "Content-Length\t", "\x01Content-Length", "Content-Length\xa0", "(Content-Length)", "Content Length",
	} {
		add("name "+name, post+name+": 5\r\n\r\nabcde")
	}
	for _, v := range []string{"-1", "+5", "5,5", "5 5", "5;", "0x5", "5.0", "5e0", "\xb25", "five", "1_0", "9999999999999999999"} {
		add("length "+v, post+"Content-Length: "+v+"\r\n\r\nabcde")
	}
	for _, v := range []string{
		"[::1", "[::1]evil", "[1.2.3.4]", "[::1%25eth0]", "[v1.x]", "a:80:80", "a:8x", "a:99999", "a:-1", "a: 80", "{a}", "a|b", "a^b",
		"a`b", "a b", "a\tb", "a,b", "a/b", "a?b", "a#b", "u@a", "a\\b", "a\"b", "<a>", "a%", "a%2", "a%zz", "\xc3\xa4",
	} {
		add("host "+v, "GET / HTTP/1.1\r\nHost: "+v+"\r\n\r\n")
		add("absolute host "+v, "GET http://"+v+"/ HTTP/1.1\r\nHost: a\r\n\r\n")
	}
	delete(rows, "absolute host a/b") // a path there
	delete(rows, "absolute host a?b")
	for _, v := range []string{"HTTP/1", "HTTP/1.", "HTTP/1.10", "HTTP/01.1", "HTTP/1.1 ", "http/1.1", "HTTP/1,1", "HTTP 1.1", "HTTP/1.x", "HTP/1.1", "HTTP/-1.1"} {
		add("version "+v, "GET / "+v+"\r\nHost: a\r\n\r\n")
	}
	for _, v := range []string{
		"5;", "5;;a", "5;a=", "5;a=\"", "5;a=\"b", "5;=b", "5;a b", "5;a=b c", "5 a", "5,a=b", "5;a=\"\\\"", " 5", "5 ", "5\t", "+5", "-5", "0x5",
		"5h", "", ";a", "00000000000000005", "5;a\x00", "5;a=\"\x01\"", "5;\xff", "5\x0b", "5\r", "5_0",
	} {
		add("chunk "+v, chunked+"\r\n"+v+"\r\nabcde\r\n0\r\n\r\n")
	}
	for _, v := range []string{
		"3\r\nabcd\r\n0\r\n\r\n", "3\r\nab\r\n\r\n0\r\n\r\n", "3\r\nabcX\n0\r\n\r\n", "3\nabc\n0\n\n", "3\r\nabc\n0\r\n\r\n", "3\r\nabc0\r\n\r\n",
		"0\r\nX : y\r\n\r\n", "0\r\n y: z\r\n\r\n", "0\r\nX\r\n\r\n", "0\nX: y\r\n\r\n",
	} {
		add("body "+v, chunked+"\r\n"+v)
	}
	for name, send := range rows {
		answer := raw(t, h.addr, send)
		if !strings.HasPrefix(answer, "HTTP/1.1 400 ") {
			t.Errorf("%q: %.60q, want 400", name, answer)
		}
		if n := strings.Count(answer, "HTTP/1.1 "); n != 1 {
			t.Errorf("%q: %d answers", name, n)
		}
	}
	for range len(got) {
		t.Errorf("the endpoint got a whole request: %.200q", <-got)
	}
}

// TestServedSpellings sends requests that are odd and still clear: they are served, and the endpoint sees them in one
// plain spelling.
func TestServedSpellings(t *testing.T) {
	got := make(chan string, 10)
	addr := recorder(t, got)
	outbound := simpleHop(t, config.HTTP1, addr)
	inbound := startHop(t, setup{
		hcm:      config.HCM{Routes: toCluster("c")},
		clusters: []*config.Cluster{{Name: "c", Type: config.ClusterOriginalDst, ConnectTimeout: 1e9}},
		info: func(i *downstream.Info) {
			i.Direction = config.DirectionInbound
			i.Local = mustAddr(addr)
		},
	})
	const chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, tt := range []struct {
		name string
		hop  *hop
		send string
		want string // part of what the endpoint sees
	}{
		{
			name: "later minor version",
			hop:  outbound,
			send: "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
			want: "GET / HTTP/1.1\r\n",
		},
		{
			name: "1.0 without Host",
			hop:  outbound,
			send: "GET /x HTTP/1.0\r\n\r\n",
			want: "host: " + outbound.addr + "\r\n",
		},
		{
			name: "1.0 without Host, inbound",
			hop:  inbound,
			send: "GET /x HTTP/1.0\r\n\r\n",
			want: "host: " + addr + "\r\n",
		},
		{
			name: "empty Host",
			hop:  outbound,
			send: "GET /x HTTP/1.1\r\nHost:\r\n\r\n",
			want: "host: " + outbound.addr + "\r\n",
		},
		{
			name: "IPv6 Host",
			hop:  outbound,
			send: "GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n",
			want: "Host: [2001:db8::1]:80\r\n",
		},
		{
			name: "underscore and percent in the Host",
			hop:  outbound,
			send: "GET / HTTP/1.1\r\nHost: a_b%2Dc.example:\r\n\r\n",
			want: "Host: a_b%2Dc.example:\r\n",
		},
		{
			name: "final dot",
			hop:  outbound,
			send: "GET / HTTP/1.1\r\nHost: a.b.:8000\r\n\r\n",
			want: "Host: a.b.:8000\r\n",
		},
		{
			name: "absolute form to the application",
			hop:  inbound,
			send: "GET http://b/x?y HTTP/1.1\r\nHost: c\r\n\r\n",
			want: "GET /x?y HTTP/1.1\r\nhost: b\r\n",
		},
		{
			name: "OPTIONS for a whole server",
			hop:  outbound,
			send: "OPTIONS http://b HTTP/1.1\r\nHost: c\r\n\r\n",
			want: "OPTIONS * HTTP/1.1\r\nhost: b\r\n",
		},
		{
			name: "OPTIONS for the root",
			hop:  outbound,
			send: "OPTIONS http://b/ HTTP/1.1\r\nHost: c\r\n\r\n",
			want: "OPTIONS / HTTP/1.1\r\n",
		},
		{
			name: "GET without a path",
			hop:  outbound,
			send: "GET http://b?q HTTP/1.1\r\nHost: c\r\n\r\n",
			want: "GET /?q HTTP/1.1\r\n",
		},
		{
			name: "chunk extensions",
			hop:  outbound,
			send: chunked + "5;a;b=c ; d = \"e;\\\"\"\r\nabcde\r\n0;x\r\n\r\n",
			want: "\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
		},
		{
			name: "space before an extension",
			hop:  outbound,
			send: chunked + "5 ;a=b\r\nabcde\r\n3\t; c\r\nfgh\r\n0\r\n\r\n",
			want: "\r\n\r\n5\r\nabcde\r\n3\r\nfgh\r\n0\r\n\r\n",
		},
		{
			name: "upper-case coding",
			hop:  outbound,
			send: strings.Replace(chunked, "chunked", "Chunked", 1) + "0\r\n\r\n",
			want: "0\r\n\r\n",
		},
		{
			name: "empty line before the request",
			hop:  outbound,
			send: "\r\nGET /y HTTP/1.1\r\nHost: a\r\n\r\n",
			want: "GET /y HTTP/1.1\r\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := net.Dial("tcp", tt.hop.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, _ = io.WriteString(c, tt.send)
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != 200 {
				b, _ := io.ReadAll(resp.Body)
				t.Fatalf("status %d: %s", resp.StatusCode, b)
			}
			if saw := <-got; !strings.Contains(saw, tt.want) {
				t.Errorf("the endpoint saw %q, want %q in it", saw, tt.want)
			}
		})
	}
}

// TestPaddedChunks has an old server pad its chunk sizes; a caller does not get to do that.
func TestPaddedChunks(t *testing.T) {
	addr := rawBackend(t, func(c net.Conn) {
		_, _ = http.ReadRequest(bufio.NewReader(c))
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5   \r\nabcde\r\n0  \r\n\r\n")
	})
	h := simpleHop(t, config.HTTP1, addr)
	got := raw(t, h.addr, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	if !strings.HasSuffix(got, "\r\n\r\n5\r\nabcde\r\n0\r\n\r\n") {
		t.Errorf("got %q", got)
	}
}

// TestBadFirstChunk has an endpoint whose body is malformed from the start: the caller is told so.
func TestBadFirstChunk(t *testing.T) {
	addr := rawBackend(t, func(c net.Conn) {
		_, _ = http.ReadRequest(bufio.NewReader(c))
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabcde\r\n0\r\n\r\n")
	})
	h := simpleHop(t, config.HTTP1, addr)
	for _, h2 := range []bool{false, true} {
		resp, err := client(t, h.addr, h2).Get("http://a/")
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 502 || !strings.Contains(string(b), "chunk") {
			t.Errorf("HTTP/2 %v: %d %s", h2, resp.StatusCode, b)
		}
	}
}

// TestUpgradeToHTTP2 asks a cluster that is spoken to in HTTP/2 for a WebSocket: it must not become a plain GET.
func TestUpgradeToHTTP2(t *testing.T) {
	addr := backend(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the endpoint was reached") }))
	h := simpleHop(t, config.HTTP2, addr)
	got := raw(t, h.addr, "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: close, Upgrade\r\nUpgrade: WebSocket\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 502 ") || !strings.Contains(got, "HTTP/2") {
		t.Errorf("got %q", got)
	}
}

// TestUpgradeToAnotherProtocol has an endpoint that switches to what it was not asked for.
func TestUpgradeToAnotherProtocol(t *testing.T) {
	for _, answer := range []string{"Upgrade: h2c\r\n", ""} {
		addr := rawBackend(t, func(c net.Conn) {
			_, _ = http.ReadRequest(bufio.NewReader(c))
			_, _ = fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n%s\r\n", answer)
		})
		h := simpleHop(t, config.HTTP1, addr)
		got := raw(t, h.addr, "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 502 ") {
			t.Errorf("%q: got %q", answer, got)
		}
	}
}
