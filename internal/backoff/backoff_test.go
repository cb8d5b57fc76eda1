package backoff

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

func TestDelays(t *testing.T) {
	d := Delays{First: 2 * time.Second, Most: 10 * time.Second}
	take := func(n int) (got []time.Duration) {
		for range n {
			got = append(got, d.Next()/time.Second)
		}
		return got
	}
	if got := take(5); !slices.Equal(got, []time.Duration{2, 4, 8, 10, 10}) {
		t.Errorf("waits of %d s", got)
	}
	d.Reset()
	if got := take(2); !slices.Equal(got, []time.Duration{2, 4}) {
		t.Errorf("waits of %d s after a success", got)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	d := Delays{First: time.Hour, Most: time.Hour}
	if err := d.Wait(ctx); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
}
