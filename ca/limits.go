package ca

import (
	"context"
	"runtime"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/identity"
)

const (
	// One identity, which all pods of a service account share, may have
	// signBurst certificates at once and signRate in a second over time. A
	// Deployment of thousands of pods that start together stays below it.
	signRate  = 50
	signBurst = 500
	// signWait is how long a request waits for a processor.
	signWait = 5 * time.Second
	// maxSigners is how many identities are remembered.
	maxSigners = 10_000
)

// signLimits bounds what signing costs: how many requests are worked on at once,
// and how many one identity may send. It is safe for concurrent use.
type signLimits struct {
	slots chan struct{} // one element for each request being worked on

	mu  sync.Mutex // guards ids
	ids map[identity.ID]*rate.Limiter
}

func newSignLimits() *signLimits {
	return &signLimits{
		// Signing is pure computation: more at once than processors only
		// makes all of them late. One processor is left for the rest.
		slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)-1)),
		ids:   make(map[identity.ID]*rate.Limiter),
	}
}

// begin takes a request of an identity, or refuses it with a gRPC status error.
// The work ends with done.
func (l *signLimits) begin(ctx context.Context, id identity.ID, now time.Time) (done func(), err error) {
	if !l.allow(id, now) {
		return nil, status.Errorf(codes.ResourceExhausted, "more than %d certificate requests of %s in a second: wait", signRate, id)
	}
	wait := time.NewTimer(signWait)
	defer wait.Stop()

	select {
	case l.slots <- struct{}{}:
		return func() { <-l.slots }, nil
	case <-wait.C:
		return nil, status.Error(codes.ResourceExhausted, "too many certificate requests are waiting: ask again")
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// allow counts a request of an identity.
func (l *signLimits) allow(id identity.ID, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.ids[id]
	if r == nil {
		if len(l.ids) >= maxSigners {
			l.forgetLocked(now)
		}
		r = rate.NewLimiter(signRate, signBurst)
		l.ids[id] = r
	}
	return r.AllowN(now, 1)
}

// forgetLocked drops the identities that have been quiet: a new limiter is as
// full as theirs. When none was, all start anew.
func (l *signLimits) forgetLocked(now time.Time) {
	for id, r := range l.ids {
		if r.TokensAt(now) >= signBurst {
			delete(l.ids, id)
		}
	}
	if len(l.ids) >= maxSigners {
		clear(l.ids)
	}
}
