package httpproxy

import (
	"net/http"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/http1"
)

// TestSmuggling sends what two HTTP implementations could read differently; nothing of it may reach the endpoint.
func TestSmuggling(t *testing.T) {
	reached := make(chan string, 100)
	addr := backend(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { reached <- r.URL.Path }))
	h := simpleHop(t, config.HTTP1, addr)
	for name, tt := range map[string]struct {
		send   string
		status string
	}{
		"length and chunked": {
			send:   "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			status: "400",
		},
		"chunked and length": {
			send:   "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
			status: "400",
		},
		"two lengths": {
			send:   "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
			status: "400",
		},
		"two equal lengths": {
			send:   "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
			status: "400",
		},
		"list of lengths": {
			send:   "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc",
			status: "400",
		},
		"signed length": {
			send:   "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
			status: "400",
		},
		"hex length": {
			send:   "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc",
			status: "400",
		},
		"empty length": {
			send:   "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nabc",
			status: "400",
		},
		"overflowing length": {
			send:   "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
			status: "400",
		},
		"two codings": {
			send:   "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
			status: "400",
		},
		"unknown coding": {
			send:   "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
			status: "400",
		},
		"coding before chunked": {
			send:   "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
			status: "501",
		},
		"vertical tab in the coding": {
			send:   "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
			status: "400",
		},
		"coding in HTTP/1.0": {
			send:   "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			status: "400",
		},
		"space before the colon": {
			send:   "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
			status: "400",
		},
		"folded line": {
			send:   "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c: d\r\n\r\n",
			status: "400",
		},
		"leading space": {
			send:   "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
			status: "400",
		},
		"bare line feed": {
			send:   "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
			status: "400",
		},
		"bare line feeds at the end": {
			send:   "GET / HTTP/1.1\r\nHost: a\n\n",
			status: "400",
		},
		"bare carriage return": {
			send:   "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
			status: "400",
		},
		"NUL in a value": {
			send:   "GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
			status: "400",
		},
		"empty name": {
			send:   "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
			status: "400",
		},
		"line without a colon": {
			send:   "GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n",
			status: "400",
		},
		"no Host": {
			send:   "GET / HTTP/1.1\r\nX: y\r\n\r\n",
			status: "400",
		},
		"two Hosts": {
			send:   "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
			status: "400",
		},
		"user in the Host": {
			send:   "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
			status: "400",
		},
		"path in the Host": {
			send:   "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
			status: "400",
		},
		"two spaces": {
			send:   "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
			status: "400",
		},
		"space in the target": {
			send:   "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
			status: "400",
		},
		"fragment": {
			send:   "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
			status: "400",
		},
		"version 2 without preface": {
			send:   "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
			status: "505",
		},
		"no version": {
			send:   "GET /\r\nHost: a\r\n\r\n",
			status: "400",
		},
		"not HTTP": {
			send:   "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n",
			status: "400",
		},
		"CONNECT": {
			send:   "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
			status: "405",
		},
		"file URL": {
			send:   "GET file:///etc HTTP/1.1\r\nHost: a\r\n\r\n",
			status: "400",
		},
		"relative target": {
			send:   "GET etc HTTP/1.1\r\nHost: a\r\n\r\n",
			status: "400",
		},
		"huge head": {
			send:   "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", http1.MaxHead) + "\r\n\r\n",
			status: "431",
		},
		"too many fields": {
			send:   "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("a: b\r\n", http1.MaxFields) + "\r\n",
			status: "431",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := raw(t, h.addr, tt.send)
			if !strings.HasPrefix(got, "HTTP/1.1 "+tt.status+" ") {
				t.Errorf("got %.100q, want status %s", got, tt.status)
			}
			select {
			case path := <-reached:
				t.Errorf("the endpoint was reached: %s", path)
			default:
			}
		})
	}
}
