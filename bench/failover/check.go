package failover

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/bench/failover/record"
)

// Check is a figure that must lie within bounds: where calls go, and how many
// more there are of them than callers have made.
type Check struct {
	Name  string  `json:"name"`
	Model Model   `json:"model"`
	Value float64 `json:"percent"`
	// AtLeast and AtMost are the bounds, in the percent of Value.
	AtLeast float64 `json:"at_least"`
	AtMost  float64 `json:"at_most"`
	OK      bool    `json:"ok"`
}

// String is the check on one line.
func (c *Check) String() string {
	line := fmt.Sprintf("%-10s %-60s %6.2f %% (%.4g to %.4g)", c.Model, c.Name, c.Value, c.AtLeast, c.AtMost)
	if !c.OK {
		line += " MISSED"
	}
	return line
}

func (s *Scene) newCheck(name string, value, atLeast, atMost float64) Check {
	return Check{name, s.Model, math.Round(value*100) / 100, atLeast, atMost, value >= atLeast && value <= atMost}
}

const (
	// sampled is how long calls are counted for a share: at some hundred a
	// second, chance moves it by less than a point.
	sampled = 10 * time.Second
	// left is how long it may take until failing endpoints are left out.
	left = 5 * time.Second
)

// Shares measures how many calls stay near: with all endpoints healthy, and with
// 60% of the near ones failing, of which the mesh must find out by itself.
//
// Two healthy endpoints of five are 40% of the priority; by the overprovisioning
// factor, 1.4, they take 56% of the calls (Envoy, "Priority levels").
func (s *Scene) Shares(ctx context.Context, load record.Load) ([]Check, error) {
	healthy, err := s.nearShare(ctx, load, sampled)
	if err != nil {
		return nil, err
	}

	ips, err := s.podIPs(ctx, s.Near, "target")
	if err != nil {
		return nil, err
	}
	down := len(ips) * 3 / 5
	if err := s.setMode(ctx, record.ModeUnavailable, ips[:down]...); err != nil {
		return nil, err
	}
	defer func() { _ = s.setMode(context.WithoutCancel(ctx), record.ModeAnswer, ips...) }()

	if _, err := s.nearShare(ctx, load, left); err != nil {
		return nil, err
	}
	failing, err := s.nearShare(ctx, load, sampled)
	if err != nil {
		return nil, err
	}
	want := min(100, 140*float64(len(ips)-down)/float64(len(ips)))
	return []Check{
		s.newCheck("answered in the caller's zone, all endpoints healthy", healthy, 99.9, 100),
		s.newCheck("answered in the caller's zone, 3 of 5 endpoints there answering 503", failing, want-3, want+3),
	}, nil
}

// nearShare sends from the near cluster for a while, and returns how many percent
// of the good answers came from there.
func (s *Scene) nearShare(ctx context.Context, load record.Load, long time.Duration) (float64, error) {
	list, err := s.send(ctx, load, func() error { return pause(ctx, long) })
	near, good := 0, 0
	for i := range list {
		if list[i].OK() {
			good++
		}
		if isNear(&list[i], s.Near.Context) {
			near++
		}
	}
	return 100 * float64(near) / float64(max(good, 1)), err
}

// send has the near cluster's caller send GETs while something is done, and
// returns them.
func (s *Scene) send(ctx context.Context, load record.Load, meanwhile func() error) ([]record.Request, error) {
	c, err := s.caller(ctx, s.Near)
	if err != nil {
		return nil, err
	}
	load.Rates = map[string]float64{http.MethodGet: load.Rates[http.MethodGet]}
	if err := c.start(ctx, load); err != nil {
		return nil, err
	}
	err = meanwhile()
	run, stopErr := c.stop(context.WithoutCancel(ctx))
	if err == nil {
		err = stopErr
	}
	return run[http.MethodGet], err
}

// Storm measures how many requests retries add when every near endpoint answers
// 503, counted at the servers: while that is being found out, and after.
func (s *Scene) Storm(ctx context.Context, load record.Load) ([]Check, error) {
	load.Rates = map[string]float64{http.MethodGet: s.StormRate}
	defer func() { _ = s.setMode(context.WithoutCancel(ctx), record.ModeAnswer) }()

	during, err := s.added(ctx, load, func() error {
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
		if err := s.setMode(ctx, record.ModeUnavailable); err != nil {
			return err
		}
		return pause(ctx, left)
	})
	if err != nil {
		return nil, err
	}
	after, err := s.added(ctx, load, func() error { return pause(ctx, left) })
	if err != nil {
		return nil, err
	}
	// Those that try whether the near ones are well again are no storm.
	return []Check{
		s.newCheck(fmt.Sprintf("requests added by retries, near cluster answering 503 at %.0f rps", s.StormRate), during, 0, 20),
		s.newCheck("requests added by retries, after failover", after, 0, 1),
	}, nil
}

// added is how many percent more requests the servers got than the caller made.
func (s *Scene) added(ctx context.Context, load record.Load, meanwhile func() error) (float64, error) {
	before, err := s.served(ctx)
	if err != nil {
		return 0, err
	}
	list, err := s.send(ctx, load, meanwhile)
	if err != nil {
		return 0, err
	}
	after, err := s.served(ctx)
	if err != nil {
		return 0, err
	}
	return 100 * (float64(after-before)/float64(max(len(list), 1)) - 1), nil
}

// served is how many GETs the servers of both clusters have been given.
func (s *Scene) served(ctx context.Context) (int64, error) {
	var total int64
	for _, c := range []Cluster{s.Near, s.Far} {
		ips, err := s.podIPs(ctx, c, "target")
		if err != nil {
			return 0, err
		}
		counts := make([]record.Counts, len(ips))
		g, ctx := errgroup.WithContext(ctx)
		for i, ip := range ips {
			g.Go(func() error {
				out, err := s.Lab.ask(ctx, c.Context, http.MethodGet, control(ip)+"/counts", "")
				if err != nil {
					return err
				}
				return json.Unmarshal(out, &counts[i])
			})
		}
		if err := g.Wait(); err != nil {
			return 0, err
		}
		for _, n := range counts {
			total += n.Get
		}
	}
	return total, nil
}
