package clusters

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/backoff"
	"github.com/isthmus-mesh/isthmus/internal/wake"
	"github.com/isthmus-mesh/isthmus/kube"
	"github.com/isthmus-mesh/isthmus/model"
)

// timing is how soon it is seen what becomes of an API server.
type timing struct {
	// ping is the time between looks whether the server answers.
	ping time.Duration
	// silence is after how long without an answer the server counts as gone.
	// For one that is always slow it is more, see reading.knock.
	silence time.Duration
	// firstKnock and mostKnock are the waits between attempts to reach a server
	// that is gone. A new pod is to be known within 5 s of its return.
	firstKnock, mostKnock time.Duration
	// refused is the wait before a server that did not take the credentials is
	// asked again; other credentials end it.
	refused time.Duration
	// start is for how long the start of the control plane waits for clusters.
	start time.Duration
}

func defaultTiming() timing {
	return timing{
		ping: time.Second, silence: 3500 * time.Millisecond,
		firstKnock: 200 * time.Millisecond, mostKnock: 2 * time.Second,
		refused: 10 * time.Second,
		start:   5 * time.Second,
	}
}

// mostPatience is how long an answer is waited for that a server may still give.
const mostPatience = 30 * time.Second

// phase is how far a reading has come.
type phase int32

const (
	knocking phase = iota // the server has not answered yet
	syncing               // it answers, and is read
	serving               // all was read; the rows are this reading's
)

// reading is one way of reading a cluster, from knocking at its API server until
// the server falls silent or another reading takes over. Its rows stay then.
type reading struct {
	cluster model.ClusterID
	door    *door
	timing  timing
	log     *slog.Logger
	store   *model.Store
	reader  kube.Config
	// takeOver is called when all is read: the reading before must have
	// stopped when it returns. It is false when this reading is not wanted any
	// more.
	takeOver func() bool
	// failed is told of each vain attempt to reach the server.
	failed func(error)
	// again wakes the reading from its wait between two attempts.
	again wake.Signal

	phase  atomic.Int32
	cancel context.CancelFunc
	done   chan struct{}
	err    error // set before done closes: why it ended by itself
}

// begin starts the reading in a goroutine of its own.
func (g *reading) begin(ctx context.Context) {
	ctx, g.cancel = context.WithCancel(ctx)
	g.done, g.again = make(chan struct{}), wake.NewSignal()
	go func() {
		defer close(g.done)
		defer g.door.close()
		g.err = g.run(ctx)
	}()
}

// stop ends the reading and waits until it writes no more.
func (g *reading) stop() {
	g.cancel()
	<-g.done
}

func (g *reading) ended() bool {
	select {
	case <-g.done:
		return true
	default:
		return false
	}
}

func (g *reading) at() phase { return phase(g.phase.Load()) }

func (g *reading) run(ctx context.Context) error {
	silence, err := g.knock(ctx)
	if err != nil {
		return err
	}
	g.phase.Store(int32(syncing))

	cfg := g.reader
	cfg.TakeOver = func() bool {
		if !g.takeOver() {
			return false
		}
		g.phase.Store(int32(serving))
		return true
	}
	r, err := kube.NewReader(g.store, g.door.clients, cfg)
	if err != nil {
		return err
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { cancel(g.listen(ctx, silence)) })
	if err := r.Run(ctx); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// knock asks until the server answers, on a new connection each time, and tells
// for how long it may be silent from then on: a server that has taken its time
// to answer now will do so again.
func (g *reading) knock(ctx context.Context) (silence time.Duration, err error) {
	delays := backoff.Delays{First: g.timing.firstKnock, Most: g.timing.mostKnock}
	limit := g.timing.silence - g.timing.ping
	for {
		before := time.Now()
		err := g.door.ping(ctx, limit)
		if err == nil {
			return max(g.timing.silence, 3*time.Since(before)), nil
		}
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}

		g.failed(err)
		g.door.hangUp()
		pause := delays.Next()
		switch {
		case errors.As(err, new(late)):
			// A server that takes connections and is only slow is waited for
			// longer each time. One that is gone is not: its return would
			// be noticed late.
			limit = min(2*limit, mostPatience)
		case errors.As(err, new(notTaken)):
			pause = max(pause, g.timing.refused)
		}

		wait := time.NewTimer(pause)
		select {
		case <-wait.C:
		case <-g.again:
			delays.Reset()
		case <-ctx.Done():
			wait.Stop()
			return 0, context.Cause(ctx)
		}
		wait.Stop()
	}
}

// silent is the error of a server that no longer answers.
type silent struct {
	since time.Time
	why   error
}

// Error names what the last attempt came to.
func (e *silent) Error() string { return fmt.Sprintf("the API server is gone: %v", e.why) }

// Unwrap gives what the last attempt came to.
func (e *silent) Unwrap() error { return e.why }

// listen returns when the server has been silent for too long, or ctx ends.
func (g *reading) listen(ctx context.Context, silence time.Duration) error {
	tick := time.NewTicker(g.timing.ping)
	defer tick.Stop()
	last := errors.New("nothing was heard of it")
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}

		// It ends when there has been silence for too long, and not later.
		if err := g.door.ping(ctx, max(silence-g.door.silence(), g.timing.ping)); err != nil {
			last = err
		}
		if quiet := g.door.silence(); quiet >= silence {
			return &silent{since: time.Now().Add(-quiet), why: last}
		}
	}
}
