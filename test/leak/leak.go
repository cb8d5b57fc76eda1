// Package leak looks for goroutines that a test has left behind. It is goleak with
// patience: goleak gives up after less than half a second, and goroutines that end
// by themselves outlive that. A server of net/http, for one, lingers 500 ms on a
// connection that it has closed before the whole request was read (so that its
// answer is not lost to a RST), and a loaded machine schedules late.
package leak

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long goroutines may take to end, well above what any of them
// needs: only a real leak waits for it.
const patience = 15 * time.Second

// Main runs a package's tests, fails them when goroutines are left, and exits.
func Main(m *testing.M) {
	code := m.Run()

	// Goroutines that a failed test left behind say nothing new.
	if code == 0 {
		if err := find(patience); err != nil {
			fmt.Fprintln(os.Stderr, "leak: the tests passed and left goroutines behind:", err)
			code = 1
		}
	}

	os.Exit(code)
}

// None fails the test when goroutines are left that no option excuses. A parallel
// test has those of its neighbours, so it is not for one.
func None(t testing.TB, options ...goleak.Option) {
	t.Helper()

	if err := find(patience, options...); err != nil {
		t.Error(err)
	}
}

// find asks until nothing is left or the time is over.
func find(within time.Duration, options ...goleak.Option) error {
	deadline := time.Now().Add(within)

	for {
		err := goleak.Find(options...)
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
