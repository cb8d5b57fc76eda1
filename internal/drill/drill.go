// Package drill runs a game day: proxies are made to believe that one cluster's
// endpoints of a service have gone, and what their calls do then is watched until
// all is as before. Nothing in any cluster is touched.
//
// A proxy fails endpoints for the length of a lease, which is renewed while the game
// goes on (POST /drill at its admin port): who runs the game may be killed, or lose
// its way to the proxy, and within the lease everything works again.
package drill

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// The game's own times, unless it sets others.
const (
	// tick is how often proxies are asked what became of their calls.
	tick = time.Second
	// lease is for how long a proxy goes on without a word, at most 15 s.
	lease = 10 * time.Second
	// renewal leaves two attempts before a lease ends.
	renewal = 3 * time.Second
	// grace is how long calls may still end that were under way when the failure
	// began; a request that hangs is given up by its own time-out.
	grace = 2 * time.Second
)

// Client is a pod whose calls are watched and diverted.
type Client struct {
	// Name is what people call it.
	Name string
	// Admin is the address of its proxy's admin port, HOST:PORT.
	Admin string
}

// Game is what is to be failed, for whom, and for how long.
type Game struct {
	// Host is the service's whole host name.
	Host string
	// Cluster is the one whose endpoints fail; when empty, the one that most calls
	// go to before.
	Cluster string
	Clients []Client
	// Before is how long calls are watched first, During for how long the
	// endpoints fail, and After how long it may take until calls are back.
	Before, During, After time.Duration
	// Tick is the time between two looks, a second when 0.
	Tick time.Duration
	// Tell is called for each look, if it is not nil.
	Tell func(Look)
}

// Stage is a part of a game.
type Stage string

// The stages, in their order.
const (
	Before Stage = "before"
	During Stage = "during"
	After  Stage = "after"
)

// Look is what proxies did with calls since the look before it.
type Look struct {
	Stage Stage `json:"stage"`
	// At is the time since the stage began.
	At    time.Duration `json:"at"`
	Calls Calls         `json:"calls"`
}

// Verdict is how a game went.
type Verdict struct {
	Host    string   `json:"host"`
	Cluster string   `json:"cluster"`
	Clients []string `json:"clients"`
	// What calls did in each stage.
	Before Calls `json:"before"`
	During Calls `json:"during"`
	After  Calls `json:"after"`
	// MovedAfter is when the last call to the failed cluster ended, in seconds since
	// the failure; BackAfter when as many went there as before, since its end.
	MovedAfter float64 `json:"movedAfterSeconds"`
	BackAfter  float64 `json:"backAfterSeconds"`
	// Problems are why the game is lost; there are none when it is won.
	Problems []string `json:"problems"`
}

// Won tells whether calls went elsewhere, lost nothing, and came back.
func (v *Verdict) Won() bool { return len(v.Problems) == 0 }

// errQuiet is returned by Run when there is nothing to watch.
var errQuiet = errors.New("a drill shows nothing without calls")

// Run plays the game. Whatever happens in it, also when ctx ends, proxies are told to
// let the endpoints be again before it returns; an error says why there is no verdict.
func (g *Game) Run(ctx context.Context) (*Verdict, error) {
	p := &play{Game: *g, verdict: &Verdict{Host: g.Host, Cluster: g.Cluster, Problems: []string{}}}
	if p.Tick == 0 {
		p.Tick = tick
	}
	for _, c := range g.Clients {
		p.verdict.Clients = append(p.verdict.Clients, c.Name)
	}

	if err := p.before(ctx); err != nil {
		return nil, err
	}
	if err := p.during(ctx); err != nil {
		return nil, err
	}
	if err := p.after(ctx); err != nil {
		return nil, err
	}
	p.judge()
	return p.verdict, nil
}

// play is a game that goes on.
type play struct {
	Game
	last    counted // by the look before
	verdict *Verdict
}

// before watches calls while nothing is wrong, and chooses the cluster.
func (p *play) before(ctx context.Context) (err error) {
	if p.last, err = p.count(ctx); err != nil {
		return err
	}
	v := p.verdict
	if err := p.watch(ctx, Before, p.Game.Before, &v.Before, nil); err != nil {
		return err
	}

	if v.Before.Total == 0 {
		return fmt.Errorf("%s made no call to %s within %s: %w; run it while there are some", strings.Join(v.Clients, ", "), p.Host, p.Game.Before, errQuiet)
	}
	if v.Cluster == "" {
		v.Cluster = v.Before.most()
	}
	if v.Before.To[v.Cluster] == 0 {
		return fmt.Errorf("no call to %s went to cluster %q within %s (they went to %s): %w; name another cluster", p.Host, v.Cluster, p.Game.Before, v.Before.Where(), errQuiet)
	}
	return nil
}

// during fails the endpoints, and sees where calls go.
func (p *play) during(ctx context.Context) (err error) {
	v := p.verdict
	// The proxies are told in any case, and also when whoever plays has been
	// interrupted: the lease is for those that this does not reach.
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), lease/2)
		defer cancel()
		if failed := p.release(ending); failed != nil && err == nil {
			err = fmt.Errorf("end the drill: %w; it ends by itself within %s", failed, lease)
		}
	}()
	if err := p.fail(ctx); err != nil {
		return err
	}

	renewed := time.Now()
	return p.watch(ctx, During, p.Game.During, &v.During, func(at time.Duration, now Calls) (bool, error) {
		if now.To[v.Cluster] > 0 {
			v.MovedAfter = at.Seconds()
		}
		if time.Since(renewed) < renewal {
			return false, nil
		}
		renewed = time.Now()
		return false, p.fail(ctx)
	})
}

// after waits until calls are back where they were.
func (p *play) after(ctx context.Context) error {
	v := p.verdict
	v.BackAfter = -1
	usual := v.Before.share(v.Cluster)
	return p.watch(ctx, After, p.Game.After, &v.After, func(at time.Duration, now Calls) (bool, error) {
		// A tenth less is chance, with the few calls of a look.
		if now.Total == 0 || now.share(v.Cluster) < 0.9*usual {
			return false, nil
		}
		v.BackAfter = at.Seconds()
		return true, nil
	})
}

// watch looks at calls, time after time, and adds them up in sum. It ends when the
// stage is over, or when each, which is asked after every look, says so.
func (p *play) watch(ctx context.Context, stage Stage, length time.Duration, sum *Calls, each func(at time.Duration, now Calls) (done bool, err error)) error {
	began := time.Now()
	ticker := time.NewTicker(p.Tick)
	defer ticker.Stop()
	for time.Since(began) < length {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}

		now, err := p.count(ctx)
		if err != nil {
			return err
		}
		calls := now.since(p.last)
		p.last = now
		sum.Add(calls)

		at := time.Since(began)
		if p.Tell != nil {
			p.Tell(Look{Stage: stage, At: at, Calls: calls})
		}
		if each == nil {
			continue
		}
		if done, err := each(at, calls); done || err != nil {
			return err
		}
	}
	return nil
}

// judge says what is wrong with what was seen.
func (p *play) judge() {
	v := p.verdict
	problem := func(format string, args ...any) { v.Problems = append(v.Problems, fmt.Sprintf(format, args...)) }

	switch bound := grace + p.Tick; {
	case v.During.Total == 0:
		problem("no call ended while the endpoints of cluster %s failed: callers wait, or have gone", v.Cluster)
	case v.MovedAfter > bound.Seconds():
		problem("calls still ended in cluster %s %.0f s after its endpoints had failed: long ones that began before, or the cluster is reached by other ways", v.Cluster, v.MovedAfter)
	}

	// What fails without a drill will fail in one: as large a part may.
	if allowed := v.Before.failing() * float64(v.During.Total); float64(v.During.Failed) > allowed {
		problem("%d of %d calls failed while the endpoints failed (before: %d of %d)", v.During.Failed, v.During.Total, v.Before.Failed, v.Before.Total)
	}
	if allowed := v.Before.failing() * float64(v.After.Total); float64(v.After.Failed) > allowed {
		problem("%d of %d calls failed on the way back (before: %d of %d)", v.After.Failed, v.After.Total, v.Before.Failed, v.Before.Total)
	}
	if v.BackAfter < 0 {
		v.BackAfter = 0
		problem("%s after the drill %.0f %% of the calls went to cluster %s; before it were %.0f %%", p.After, 100*v.After.share(v.Cluster), v.Cluster, 100*v.Before.share(v.Cluster))
	}
}
