package http1

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

// TestReaderKnowsWhatCame: a pool keeps a connection, and a request is sent again, by what a Reader says of it.
func TestReaderKnowsWhatCame(t *testing.T) {
	check := func(when string, r *Reader, empty, nothing bool) {
		t.Helper()
		if r.Empty() != empty || r.NothingCame() != nothing {
			t.Errorf("%s: empty %v, nothing came %v, want %v, %v", when, r.Empty(), r.NothingCame(), empty, nothing)
		}
	}
	var r Reader
	r.Reset(strings.NewReader("answer"))
	check("before the first read", &r, true, true)

	if err := r.Fill(); err != nil {
		t.Fatal(err)
	}
	check("when all is there", &r, false, false)
	if r.FilledUp() {
		t.Error("six bytes fill the buffer")
	}
	r.Discard(len("answer") - 1)
	check("with a byte left", &r, false, false)
	r.Discard(1)
	check("when all is consumed", &r, true, false)

	if err := r.Fill(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	check("after the end", &r, true, true)
}

func TestReaderFillsUp(t *testing.T) {
	var r Reader
	r.Reset(strings.NewReader(strings.Repeat("x", IdleSize)))
	if err := r.Fill(); err != nil || !r.FilledUp() {
		t.Errorf("filled up %v, %v", r.FilledUp(), err)
	}
}

// TestReaderAsksWhenStalled: a read that hits its deadline is tried again as long as Stalled says so.
func TestReaderAsksWhenStalled(t *testing.T) {
	asked := 0
	var r Reader
	r.Reset(iotest.ErrReader(os.ErrDeadlineExceeded))
	r.Stalled = func() bool {
		asked++
		return asked < 3
	}
	if err := r.Fill(); !errors.Is(err, os.ErrDeadlineExceeded) || asked != 3 {
		t.Errorf("%v after %d questions", err, asked)
	}
}
