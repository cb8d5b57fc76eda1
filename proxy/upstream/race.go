package upstream

import (
	"context"
	"slices"
)

// mostRacing bounds the endpoints that a race is between: two of a place that has gone
// away, and two elsewhere.
const mostRacing = 4

// Race makes a connection for somebody who cares little with whom: to one endpoint,
// and, as soon as that is late, to another one beside it (as RFC 8305, section 5, does
// it with the addresses of a host). Who comes about first is taken.
type Race[T any] struct {
	// Open makes a connection to an endpoint. When ctx is over, nobody waits for it any
	// more. It is called from several goroutines.
	Open func(ctx context.Context, e *Endpoint) (T, error)
	// Next returns an endpoint beside those that were asked, nil when there is none.
	Next func(asked []*Endpoint) *Endpoint
	// Spare takes a connection that came about too late, from another goroutine.
	Spare func(e *Endpoint, conn T)
}

// PlaceIsLate tells whether enough was asked of a place, as all were late, and the next
// priority has its turn. Two endpoints are; and so is one gateway, as those beside it
// lead to the same endpoints.
func PlaceIsLate(asked []*Endpoint) bool {
	return len(asked) > 1 || slices.ContainsFunc(asked, (*Endpoint).AnswersForOthers)
}

// Finish is how a race ended.
type Finish[T any] struct {
	*Endpoint // who won, or failed last
	Conn      T
	Err       error // of the last one, when all have failed; or the cause of the context
	// Failed are the others that have failed, in their order.
	Failed []*Endpoint
}

// Run begins with first, and returns when a connection has come about, or all have
// failed that were asked, or ctx is over. Errors are those of Open, and the cause of
// ctx.
func (r *Race[T]) Run(ctx context.Context, first *Endpoint) Finish[T] {
	if !first.mayBeLate() {
		conn, err := r.Open(ctx, first)
		return Finish[T]{Endpoint: first, Conn: conn, Err: err}
	}

	ctx, over := context.WithCancel(ctx)
	defer over()

	results := make(chan Finish[T])
	asked := []*Endpoint{first}
	go r.open(ctx, first, results)
	late := first.Late()

	var failed []*Endpoint
	for {
		select {
		case f := <-results:
			if f.Err == nil || len(failed)+1 == len(asked) {
				f.Failed = failed
				return f
			}
			failed = append(failed, f.Endpoint)

		case <-late:
			late = nil
			if len(asked) == mostRacing {
				continue
			}
			if next := r.Next(slices.Clone(asked)); next != nil {
				asked = append(asked, next)
				go r.open(ctx, next, results)
				late = next.Late()
			}

		case <-ctx.Done():
			return Finish[T]{Endpoint: first, Err: context.Cause(ctx), Failed: failed}
		}
	}
}

// open makes one connection, and hands it over if it is wanted then.
func (r *Race[T]) open(ctx context.Context, e *Endpoint, results chan<- Finish[T]) {
	conn, err := r.Open(ctx, e)
	select {
	case results <- Finish[T]{Endpoint: e, Conn: conn, Err: err}:
	case <-ctx.Done():
		if err == nil {
			r.Spare(e, conn)
		}
	}
}
