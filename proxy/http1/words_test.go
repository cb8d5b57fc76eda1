package http1

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// TestWordsAreLikeBytes holds that what is compared eight bytes at a time comes to
// the same as byte by byte, whatever the length and wherever the odd byte stands.
func TestWordsAreLikeBytes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const letters = "abcxyzABCXYZ0159-_^`[]{}@~!\t \x80\xff"
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
		if !isFieldTextSlow(text) {
			continue // no field holds it
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
