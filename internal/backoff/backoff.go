// Package backoff spaces attempts at what may fail for a while.
package backoff

import (
	"context"
	"time"
)

// Delays are the waits between attempts that fail: First, then twice as long each
// time, and Most at most. One goroutine at a time uses them.
type Delays struct {
	First, Most time.Duration

	next time.Duration
}

// Next gives the wait before the next attempt.
func (d *Delays) Next() time.Duration {
	wait := min(max(d.next, d.First), d.Most)
	d.next = 2 * wait
	return wait
}

// Reset begins anew with First: an attempt has succeeded.
func (d *Delays) Reset() { d.next = 0 }

// Wait waits as long as Next gives. It ends early, with the cause, when ctx does.
func (d *Delays) Wait(ctx context.Context) error {
	t := time.NewTimer(d.Next())
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
