//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// load is a run of fortio in a pod, which goes on while the test does something.
type load struct {
	done chan loadResult
}

type loadResult struct {
	out string
	err error
}

// start runs a script with a load in the background.
func (s shell) start(t testing.TB, script string) *load {
	t.Helper()
	t.Logf("$ %s &", strings.TrimSpace(script))
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	t.Cleanup(cancel)
	l := &load{done: make(chan loadResult, 1)}
	go func() {
		out, err := s.run(ctx, script)
		l.done <- loadResult{out, err}
	}()
	return l
}

// answered waits for the end of the load, which must not have come before: every
// call must have got the answer.
func (l *load) answered(t testing.TB, good string) {
	t.Helper()
	select {
	case r := <-l.done:
		t.Fatalf("the load ended before what it was to go through: %v\n%s", r.err, r.out)
	default:
	}
	r := <-l.done
	if r.err != nil {
		t.Fatalf("load: %v\n%s", r.err, r.out)
	}
	assertAllGood(t, r.out, good)
}

// assertAllGood reads what fortio measured: every call must have got the answer.
func assertAllGood(t testing.TB, out, good string) {
	t.Helper()
	var measured struct {
		RetCodes  map[string]int
		ActualQPS float64
	}
	start := strings.Index(out, "{")
	if start < 0 {
		t.Fatalf("fortio says nothing:\n%s", out)
	}
	if err := json.NewDecoder(strings.NewReader(out[start:])).Decode(&measured); err != nil {
		t.Fatalf("read fortio's figures: %v\n%s", err, out)
	}
	t.Logf("%.0f calls a second: %v", measured.ActualQPS, measured.RetCodes)
	for code, n := range measured.RetCodes {
		if code != good {
			t.Errorf("%d calls ended with %s", n, code)
		}
	}
	if measured.RetCodes[good] == 0 {
		t.Error("no call was answered")
	}
}
