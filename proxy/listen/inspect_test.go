package listen

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/mtls/mtlstest"
)

// clientHello returns the first flight of a crypto/tls client.
func clientHello(t testing.TB, c *tls.Config) []byte {
	t.Helper()
	a, b := net.Pipe()
	go func() {
		_ = tls.Client(a, c).Handshake()
	}()
	defer a.Close()
	buf := make([]byte, 64<<10)
	_ = b.SetReadDeadline(time.Now().Add(20 * time.Second))
	n, err := b.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	return buf[:n]
}

func TestParseHello(t *testing.T) {
	alpn := []string{"istio-peer-exchange", "istio"}
	whole := clientHello(t, &tls.Config{ServerName: "Outbound_.8000_._.httpbin.bar.global", NextProtos: alpn})
	want := hello{sni: "outbound_.8000_._.httpbin.bar.global", alpn: alpn}
	if h, err := parseHello(whole); err != nil || !reflect.DeepEqual(h, want) {
		t.Errorf("got %+v, %v, want %+v", h, err, want)
	}
	for n := range whole {
		if _, err := parseHello(whole[:n]); err != errMore {
			t.Fatalf("the first %d of %d bytes: %v, want errMore", n, len(whole), err)
		}
	}
	if h, err := parseHello(inRecords(whole, 7)); err != nil || !reflect.DeepEqual(h, want) {
		t.Errorf("split into records of 7 bytes: got %+v, %v", h, err)
	}
	if h, err := parseHello(clientHello(t, &tls.Config{InsecureSkipVerify: true})); err != nil || h.sni != "" || h.alpn != nil {
		t.Errorf("without SNI and ALPN: got %+v, %v", h, err)
	}
	for _, b := range []string{"GET / HTTP/1.1\r\n", "\x16\x02", "\x15\x03\x01\x00\x02\x02\x28"} {
		if _, err := parseHello([]byte(b)); err == nil || err == errMore {
			t.Errorf("%q: %v", b, err)
		}
	}
}

// inRecords splits the handshake message of one record into records of n
// bytes.
func inRecords(b []byte, n int) []byte {
	var out []byte
	for msg := b[recordHead:]; len(msg) > 0; {
		k := min(n, len(msg))
		out = append(out, recordShake, 3, 1, 0, byte(k))
		out = append(out, msg[:k]...)
		msg = msg[k:]
	}
	return out
}

// TestServerNameIsAHostName: a name that is not one could be that of any
// cluster.
func TestServerNameIsAHostName(t *testing.T) {
	for in, want := range map[string]string{
		"a.example.com": "a.example.com", "A.Example.COM.": "a.example.com",
		"outbound|80||a.local": "", "a b": "", "": "", strings.Repeat("a", 256): "", "ä.de": "",
	} {
		if got := hostName(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestSniffHTTP(t *testing.T) {
	const more = "more"
	for in, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n":     "http/1.1",
		"GET /a b HTTP/1.0\n":                   "http/1.1",
		"M-SEARCH * HTTP/1.1\r\n":               "http/1.1",
		"GET / HTTP/2.0\r\n":                    "tcp",
		"GET /\r\n":                             "tcp",
		"GET / HTTP/1.":                         more,
		"G":                                     more,
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":      "h2",
		"PRI * HT":                              more,
		"PRI * HTTP/1.1\r\n":                    "http/1.1",
		"*1\r\n$4\r\nPING\r\n":                  "tcp",
		"PING\r\n":                              "tcp",
		"SET key HTTP\r\n":                      "tcp",
		"\x00\x00":                              "tcp",
		"get / HTTP/1.1\r\n":                    "tcp",
		" GET / HTTP/1.1\r\n":                   "tcp",
		"GET /" + strings.Repeat("a", 9000):     "tcp",
		"THISMETHODNAMEISMUCHTOOLONGTOBEONE / ": "tcp",
	} {
		p, m := sniffHTTP([]byte(in))
		got := p.String()
		if m {
			got = more
		}
		if got != want {
			t.Errorf("%.40q: got %s, want %s", in, got, want)
		}
	}
}

// TestInspect: what is seen of bytes that come in pieces, and that they are
// still there afterwards.
func TestInspect(t *testing.T) {
	shake := clientHello(t, &tls.Config{ServerName: "a.global", NextProtos: []string{"h2"}})
	cases := map[string]struct {
		pieces []string
		want   seen
	}{
		"tls": {
			pieces: []string{string(shake)},
			want:   seen{hello: hello{"a.global", []string{"h2"}}, tls: true},
		},
		"tls in pieces": {
			pieces: []string{string(shake[:3]), string(shake[3:9]), string(shake[9:])},
			want:   seen{hello: hello{"a.global", []string{"h2"}}, tls: true},
		},
		"http": {[]string{"GET / HT", "TP/1.1\r\n\r\n"}, seen{http: config.ProtocolHTTP1}},
		"long line": {
			pieces: []string{"GET /" + strings.Repeat("x", 6000), " HTTP/1.1\r\n"},
			want:   seen{http: config.ProtocolHTTP1},
		},
		"h2c": {
			pieces: []string{"PRI * HTTP/2.0\r\n\r\n", "SM\r\n\r\n"},
			want:   seen{http: config.ProtocolHTTP2},
		},
		"something else": {[]string{"\x03\x00\x00"}, seen{http: config.ProtocolTCP}},
		"silence":        {nil, seen{silent: true}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, data, err := inspectPieces(t, c.pieces)
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, %v, want %+v", got, err, c.want)
			}
			if all := strings.Join(c.pieces, ""); data != all {
				t.Errorf("%d of %d bytes are left to read", len(data), len(all))
			}
		})
	}
}

// inspectPieces sends pieces to an inspected connection and returns what was
// seen and what could be read afterwards.
func inspectPieces(t *testing.T, pieces []string) (seen, string, error) {
	t.Helper()
	type result struct {
		s    seen
		err  error
		data []byte
	}
	done := make(chan result, 1)
	look := inspection{tls: true, http: true, wait: 300 * time.Millisecond, goOn: true}
	addr := serve(t, func(c *net.TCPConn) {
		var r result
		r.s, r.err = inspect(c, look)
		r.data, _ = io.ReadAll(c)
		done <- r
	})
	c := dial(t, addr)
	for _, p := range pieces {
		_, _ = io.WriteString(c, p)
		time.Sleep(10 * time.Millisecond)
	}
	if len(pieces) == 0 {
		time.Sleep(400 * time.Millisecond)
	}
	_ = c.CloseWrite()
	r := <-done
	return r.s, string(r.data), r.err
}

// TestInspectTornHello: a peer that ends in the middle of its ClientHello is
// not waited for.
func TestInspectTornHello(t *testing.T) {
	shake := clientHello(t, &tls.Config{ServerName: "a.global"})
	start := time.Now()
	s, _, err := inspectPieces(t, []string{string(shake[:20])})
	if s.tls || time.Since(start) > 10*time.Second {
		t.Errorf("got %+v, %v after %v", s, err, time.Since(start))
	}
}

// TestSlowHello: on a listener that soon gives up on silent clients, a
// ClientHello that has begun is waited for.
func TestSlowHello(t *testing.T) {
	ca := mtlstest.NewCA(t, "root")
	s := newSide(t, ca.Identity(serverID))
	s.static("echo", nil, serve(t, echo))
	secure := toCluster("echo")
	secure.TLS = serverTLS()
	secure.Match.TransportProtocol = "tls"
	addr := s.listen(tcpListener("l", secure))
	cert := ca.Identity(clientID).Certificate()
	c := tls.Client(&slowConn{TCPConn: dial(t, addr)}, &tls.Config{
		InsecureSkipVerify: true, Certificates: []tls.Certificate{*cert},
	})
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello" {
		t.Fatalf("got %q, %v", b, err)
	}
}

// slowConn sends its first message in two parts, far apart.
type slowConn struct {
	*net.TCPConn
	begun bool
}

func (s *slowConn) Write(p []byte) (int, error) {
	if s.begun {
		return s.TCPConn.Write(p)
	}
	s.begun = true
	if _, err := s.TCPConn.Write(p[:10]); err != nil {
		return 0, err
	}
	time.Sleep(200 * time.Millisecond)
	n, err := s.TCPConn.Write(p[10:])
	return n + 10, err
}

func FuzzParseHello(f *testing.F) {
	whole := clientHello(f, &tls.Config{ServerName: "a.global", NextProtos: []string{"istio", "h2"}})
	f.Add(whole)
	f.Add(inRecords(whole, 100))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHello(b)
		if err == nil && h.sni != hostName(h.sni) {
			t.Errorf("name %q came through", h.sni)
		}
		if err == nil {
			// More bytes behind change nothing.
			again, err := parseHello(append(bytes.Clone(b), "more"...))
			if err != nil || fmt.Sprint(again) != fmt.Sprint(h) {
				t.Errorf("with bytes behind: %+v, %v, want %+v", again, err, h)
			}
		}
	})
}

func FuzzSniffHTTP(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Add(h2Preface)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, more := sniffHTTP(b)
		if more {
			return
		}
		if q, again := sniffHTTP(append(bytes.Clone(b), "x\r\n"...)); again || q != p {
			t.Errorf("%q: %v, and with more bytes %v, more %v", b, p, q, again)
		}
	})
}
