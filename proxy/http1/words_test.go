package http1

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestWordsAreLikeBytes holds that what is compared eight bytes at a time comes to
// the same as byte by byte, whatever the length and wherever the odd byte stands.
func TestWordsAreLikeBytes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const letters = "abcxyzABCXYZ0159-_^`[]{}@~!\t\r\x10\x15 \x80\xff"
	for range 200_000 {
		text := make([]byte, random.IntN(40))
		for i := range text {
			text[i] = letters[random.IntN(len(letters))]
		}
		if len(text) > 0 && random.IntN(4) == 0 {
			text[random.IntN(len(text))] = byte(random.IntN(256))
		}

		if got, want := isFieldText(text), isFieldTextSlow(text); got != want {
			t.Fatalf("isFieldText(%q) = %v, want %v", text, got, want)
		}
		lower := []byte(strings.ToLower(string(text)))
		if len(lower) > 0 && random.IntN(2) == 0 {
			lower[random.IntN(len(lower))] = "az09-"[random.IntN(5)]
		}
		if strings.Trim(string(lower), "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			continue // no name of ours
		}
		if got, want := EqualLower(text, string(lower)), strings.EqualFold(string(text), string(lower)); got != want {
			t.Fatalf("EqualLower(%q, %q) = %v, want %v", text, lower, got, want)
		}
	}

	for _, id := range []FieldID{FieldHost, FieldXFCC, FieldContentLength, FieldTE} {
		name := id.String()
		if got := identify([]byte(strings.ToUpper(name))); got != id {
			t.Errorf("identify(%q) = %v", strings.ToUpper(name), got)
		}
		for i := range len(name) {
			other := []byte(name)
			other[i] ^= 0x01
			if got := identify(other); got == id {
				t.Errorf("%q is taken for %q", other, name)
			}
		}
	}
}

// TestNamesByteByByte puts every byte into every place of a field name: the line is refused unless that leaves a name.
func TestNamesByteByByte(t *testing.T) {
	for _, name := range []string{"host", "x-other", "x-request-id", "transfer-encoding", "x-envoy-internal", "x-envoy-attempt-count", "x-envoy-a"} {
		for at := range name {
			for c := range 256 {
				changed := []byte(name)
				changed[at] = byte(c)
				want := strings.IndexByte(tokenChars, byte(c)) >= 0 || c == ':' && at > 0

				var h Head
				h.reset([]byte(string(changed) + ": v\r\n\r\n"))
				err := h.parseFields(0)
				if got := err == nil; got != want {
					t.Fatalf("field name %q: %v", changed, err)
				}
			}
		}
	}
}

func TestEmptyLineEnd(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		b := make([]byte, random.IntN(24))
		for i := range b {
			b[i] = "\r\n\r\na"[random.IntN(5)]
		}
		from := 0
		if len(b) > 0 {
			from = random.IntN(len(b))
		}
		want := 0
		if i := bytes.Index(b[from:], []byte("\r\n\r\n")); i >= 0 {
			want = from + i + 4
		}
		if got := emptyLineEnd(b, from); got != want {
			t.Fatalf("emptyLineEnd(%q, %d) = %d, want %d", b, from, got, want)
		}
	}
}

func TestCharsetHolds(t *testing.T) {
	set := charsetOf("ab")
	for n := range 20 {
		s := strings.Repeat("ab", n)[:n]
		if !set.holds(s) {
			t.Errorf("%q is not held", s)
		}
		for at := range n {
			if odd := s[:at] + "c" + s[at+1:]; set.holds(odd) {
				t.Errorf("%q is held", odd)
			}
		}
	}
}
