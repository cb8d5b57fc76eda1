package httpproxy

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/proxy/config"
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
		"length and chunked":         {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
		"chunked and length":         {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n", "400"},
		"two lengths":                {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "400"},
		"two equal lengths":          {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "400"},
		"list of lengths":            {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc", "400"},
		"signed length":              {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", "400"},
		"hex length":                 {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc", "400"},
		"empty length":               {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nabc", "400"},
		"overflowing length":         {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", "400"},
		"two codings":                {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", "400"},
		"unknown coding":             {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "400"},
		"coding before chunked":      {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501"},
		"vertical tab in the coding": {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", "400"},
		"coding in HTTP/1.0":         {"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
		"space before the colon":     {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "400"},
		"folded line":                {"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c: d\r\n\r\n", "400"},
		"leading space":              {"GET / HTTP/1.1\r\n Host: a\r\n\r\n", "400"},
		"bare line feed":             {"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", "400"},
		"bare line feeds at the end": {"GET / HTTP/1.1\r\nHost: a\n\n", "400"},
		"bare carriage return":       {"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", "400"},
		"NUL in a value":             {"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", "400"},
		"empty name":                 {"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", "400"},
		"line without a colon":       {"GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n", "400"},
		"no Host":                    {"GET / HTTP/1.1\r\nX: y\r\n\r\n", "400"},
		"two Hosts":                  {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"},
		"user in the Host":           {"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", "400"},
		"path in the Host":           {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400"},
		"two spaces":                 {"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
		"space in the target":        {"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
		"fragment":                   {"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
		"version 2 without preface":  {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505"},
		"no version":                 {"GET /\r\nHost: a\r\n\r\n", "400"},
		"not HTTP":                   {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", "400"},
		"CONNECT":                    {"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", "405"},
		"file URL":                   {"GET file:///etc HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
		"relative target":            {"GET etc HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
		"huge head":                  {"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", maxHead) + "\r\n\r\n", "431"},
		"too many fields":            {"GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("a: b\r\n", maxFields) + "\r\n", "431"},
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

// TestBadChunks sends bodies whose chunks are malformed: the endpoint must not see a complete request.
func TestBadChunks(t *testing.T) {
	for name, body := range map[string]string{
		"negative size":       "-1\r\nabc\r\n0\r\n\r\n",
		"prefixed size":       "0x3\r\nabc\r\n0\r\n\r\n",
		"space before size":   " 3\r\nabc\r\n0\r\n\r\n",
		"space after size":    "3 \r\nabc\r\n0\r\n\r\n",
		"bare line feed":      "3\nabc\r\n0\r\n\r\n",
		"no size":             "\r\nabc\r\n0\r\n\r\n",
		"overlong size":       "00000000000000000003\r\nabc\r\n0\r\n\r\n",
		"data too long":       "3\r\nabcd\r\n0\r\n\r\n",
		"control in ext":      "3;a=\x01\r\nabc\r\n0\r\n\r\n",
		"carriage return ext": "3;a\r=b\r\nabc\r\n0\r\n\r\n",
		"endless size line":   "3;" + strings.Repeat("a", 10000),
		"bad trailer":         "3\r\nabc\r\n0\r\nX : y\r\n\r\n",
		"folded trailer":      "3\r\nabc\r\n0\r\nX: y\r\n z\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			var s chunkScanner
			var h head
			b := []byte(body)
			n := 0
			for s.state != chunkTrailers {
				frame, data, err := s.next(b[n:])
				if err != nil {
					return
				}
				if frame+data == 0 {
					t.Fatalf("accepted up to %q", b[n:])
				}
				n += frame + data
			}
			if k, err := s.trailers(b[n:], &h); err == nil && k > 0 {
				t.Errorf("accepted %q", body)
			}
		})
	}
}

func TestChunksInPieces(t *testing.T) {
	const body = "5;name=value\r\nhello\r\n1\r\n!\r\n00\r\nX-Sum: 1\r\nHost: evil\r\n\r\n"
	for size := 1; size < len(body); size++ {
		var s chunkScanner
		var h head
		var got, have []byte
		rest := []byte(body)
		for s.state != chunkDone {
			k := min(size, len(rest))
			have, rest = append(have, rest[:k]...), rest[k:]
			for s.state != chunkTrailers {
				frame, data, err := s.next(have)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, have[frame:frame+data]...)
				have = have[frame+data:]
				if data == 0 {
					break
				}
			}
			if s.state == chunkTrailers {
				n, err := s.trailers(have, &h)
				if err != nil {
					t.Fatal(err)
				}
				have = have[n:]
			}
		}
		if trailers := string(h.appendFields(nil)); string(got) != "hello!" || trailers != "X-Sum: 1\r\n" {
			t.Errorf("pieces of %d: body %q, trailers %q", size, got, trailers)
		}
	}
}

func TestHopByHopFields(t *testing.T) {
	var h head
	raw := "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Private , host\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n" +
		"TE: gzip, trailers\r\nX-Private: 1\r\nX-MiXed: Kept\r\nProxy-Authorization: kept\r\nUpgrade: h2c\r\n\r\n"
	if err := h.parseRequest([]byte(raw)); err != nil {
		t.Fatal(err)
	}
	if got, want := string(h.appendFields(nil)), "Host: a\r\nX-MiXed: Kept\r\nProxy-Authorization: kept\r\n"; got != want {
		t.Errorf("kept %q, want %q", got, want)
	}
	if !h.close || !h.trailersOK || h.upgrade {
		t.Errorf("close %v, trailers %v, upgrade %v", h.close, h.trailersOK, h.upgrade)
	}
}

func TestIdentifyKnowsEveryName(t *testing.T) {
	for id := otherField + 1; id < fieldIDs; id++ {
		for _, name := range []string{id.String(), strings.ToUpper(id.String())} {
			if got := identify([]byte(name)); got != id {
				t.Errorf("identify(%q) = %d, want %d", name, got, id)
			}
		}
	}
	if id := identify([]byte("x-forwarded-client-cers")); id != otherField {
		t.Errorf("a near miss was taken for %s", id)
	}
}

func TestIsFieldText(t *testing.T) {
	for c := range 256 {
		for at := range 17 {
			b := bytes.Repeat([]byte{'a'}, 17)
			b[at] = byte(c)
			want := c >= 0x20 && c != 0x7f || c == '\t'
			if got := isFieldText(b); got != want {
				t.Fatalf("isFieldText with %#x at %d = %v", c, at, got)
			}
		}
	}
}

// FuzzRequestHead checks that what is accepted is written out as something that is accepted again and means the
// same.
func FuzzRequestHead(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n"))
	f.Add([]byte("POST /a?b HTTP/1.0\r\nContent-Length: 3\r\nConnection: keep-alive, x\r\nX: 1\r\n\r\nabc"))
	f.Add([]byte("POST http://h/ HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nte: trailers\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := findHeadEnd(b, 0)
		if err != nil || n == 0 {
			return
		}
		var h, again head
		if h.parseRequest(b[:n]) != nil {
			return
		}
		out := append([]byte(nil), h.method...)
		out = append(append(append(out, ' '), h.target...), " HTTP/1.1\r\n"...)
		if h.minor == 0 && !h.has(fieldHost) {
			out = append(out, "host: x\r\n"...)
		}
		out = append(h.appendFields(out), "\r\n"...)
		end, err := findHeadEnd(out, 0)
		if err != nil || end != len(out) {
			t.Fatalf("the head that was written ends at %d of %d: %q", end, len(out), out)
		}
		if err := again.parseRequest(out); err != nil {
			t.Fatalf("%q was accepted, but not %q: %v", b[:n], out, err)
		}
		if again.framing != h.framing || !bytes.Equal(again.get(fieldHost), h.get(fieldHost)) && h.has(fieldHost) {
			t.Fatalf("%q means something else than %q", out, b[:n])
		}
	})
}

// FuzzChunks checks that a chunked body reads the same in one piece and byte by byte.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n"))
	f.Add([]byte("a\r\n0123456789\r\n0\r\n\r\n"))
	scan := func(b []byte, step int) (body []byte, ok bool) {
		var s chunkScanner
		n := 0
		for end := step; ; end += step {
			end = min(end, len(b))
			for {
				frame, data, err := s.next(b[n:end])
				if err != nil {
					return nil, false
				}
				body = append(body, b[n+frame:n+frame+data]...)
				n += frame + data
				if data == 0 {
					break
				}
			}
			if s.state == chunkTrailers || end == len(b) {
				return body, s.state == chunkTrailers
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 || len(b) > maxChunkLine {
			return
		}
		whole, ok := scan(b, len(b))
		pieces, ok2 := scan(b, 1)
		if ok != ok2 || ok && !bytes.Equal(whole, pieces) {
			t.Fatalf("%q: in one piece %q %v, byte by byte %q %v", b, whole, ok, pieces, ok2)
		}
	})
}
