package http1

import (
	"bytes"
	"strings"
	"testing"
)

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
			var h Head
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
		var h Head
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
		if trailers := string(h.AppendFields(nil)); string(got) != "hello!" || trailers != "X-Sum: 1\r\n" {
			t.Errorf("pieces of %d: body %q, trailers %q", size, got, trailers)
		}
	}
}

func TestHopByHopFields(t *testing.T) {
	var h Head
	raw := "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Private , host\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n" +
		"TE: gzip, trailers\r\nX-Private: 1\r\nX-MiXed: Kept\r\nProxy-Authorization: kept\r\nUpgrade: h2c\r\n\r\n"
	if err := h.ParseRequest([]byte(raw)); err != nil {
		t.Fatal(err)
	}
	if got, want := string(h.AppendFields(nil)), "Host: a\r\nX-MiXed: Kept\r\nProxy-Authorization: kept\r\n"; got != want {
		t.Errorf("kept %q, want %q", got, want)
	}
	if !h.Close || !h.TrailersOK || h.Upgrade {
		t.Errorf("close %v, trailers %v, upgrade %v", h.Close, h.TrailersOK, h.Upgrade)
	}
}

func TestIdentifyKnowsEveryName(t *testing.T) {
	for id := OtherField + 1; id < fieldIDs; id++ {
		for _, name := range []string{id.String(), strings.ToUpper(id.String())} {
			if got := identify([]byte(name)); got != id {
				t.Errorf("identify(%q) = %d, want %d", name, got, id)
			}
		}
	}
	if id := identify([]byte("x-forwarded-client-cers")); id != OtherField {
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
		var h, again Head
		if h.ParseRequest(b[:n]) != nil {
			return
		}
		out := append([]byte(nil), h.Method...)
		out = append(append(append(out, ' '), h.Target...), " HTTP/1.1\r\n"...)
		if h.Minor == 0 && !h.has(FieldHost) {
			out = append(out, "host: x\r\n"...)
		}
		out = append(h.AppendFields(out), "\r\n"...)
		end, err := findHeadEnd(out, 0)
		if err != nil || end != len(out) {
			t.Fatalf("the head that was written ends at %d of %d: %q", end, len(out), out)
		}
		if err := again.ParseRequest(out); err != nil {
			t.Fatalf("%q was accepted, but not %q: %v", b[:n], out, err)
		}
		if again.Framing != h.Framing || !bytes.Equal(again.Get(FieldHost), h.Get(FieldHost)) && h.has(FieldHost) {
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
