package upstream

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// course is a race between endpoints whose connections a test decides about.
type course struct {
	*mesh
	race  Race[string]
	ended map[*Endpoint]chan error // what comes of the connection to each

	mu     sync.Mutex // guards what follows
	opened []*Endpoint
	spares []string
}

func newCourse(t *testing.T) *course {
	m := newMesh(t, &config.Cluster{}, locality(0, at(1), at(2)), locality(1, at(3)))
	c := &course{mesh: m, ended: map[*Endpoint]chan error{}}
	for _, e := range m.Endpoints() {
		c.ended[e] = make(chan error, 1)
	}
	c.race = Race[string]{
		Open: func(_ context.Context, e *Endpoint) (string, error) {
			c.mu.Lock()
			c.opened = append(c.opened, e)
			c.mu.Unlock()
			return e.Addr().String(), <-c.ended[e]
		},
		Next: func(asked []*Endpoint) *Endpoint {
			for _, e := range m.Endpoints() {
				if !slices.Contains(asked, e) {
					return e
				}
			}
			return nil
		},
		Spare: func(_ *Endpoint, conn string) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.spares = append(c.spares, conn)
		},
	}
	return c
}

// run begins the race with the first endpoint.
func (c *course) run(ctx context.Context) <-chan Finish[string] {
	out := make(chan Finish[string], 1)
	go func() { out <- c.race.Run(ctx, c.endpoint(1)) }()
	return out
}

// asked waits until so many endpoints are asked.
func (c *course) asked(t *testing.T, n int) {
	t.Helper()
	await(t, "the next endpoint is asked", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.opened) == n
	})
}

// TestRaceFirstComesAbout: nobody else is asked as long as nothing is late, and failure
// is told at once.
func TestRaceFirstComesAbout(t *testing.T) {
	for _, err := range []error{nil, errors.New("refused")} {
		c := newCourse(t)
		c.ended[c.endpoint(1)] <- err
		f := <-c.run(t.Context())
		if f.Endpoint != c.endpoint(1) || !errors.Is(f.Err, err) || len(c.opened) != 1 || f.Failed != nil {
			t.Errorf("got %+v of %d", f, len(c.opened))
		}
	}
}

// TestRaceIsWonByTheSecond: the one that is late is kept when it comes about after all.
func TestRaceIsWonByTheSecond(t *testing.T) {
	c := newCourse(t)
	finish := c.run(t.Context())
	c.asked(t, 1)
	c.endpoint(1).tardy()
	c.asked(t, 2)
	c.ended[c.endpoint(2)] <- nil
	if f := <-finish; f.Endpoint != c.endpoint(2) || f.Err != nil || f.Failed != nil {
		t.Errorf("got %+v", f)
	}
	c.ended[c.endpoint(1)] <- nil
	await(t, "the spare one is handed over", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return slices.Equal(c.spares, []string{c.endpoint(1).Addr().String()})
	})
}

// TestRaceFails: the last failure is told, and with it who had failed before.
func TestRaceFails(t *testing.T) {
	c := newCourse(t)
	for n := range byte(3) {
		c.endpoint(n + 1).tardy()
	}
	finish := c.run(t.Context())
	c.asked(t, 3)
	refused := errors.New("refused")
	for n := range byte(3) {
		c.ended[c.endpoint(n+1)] <- refused
	}
	f := <-finish
	all := append(slices.Clone(f.Failed), f.Endpoint)
	slices.SortFunc(all, func(a, b *Endpoint) int { return a.Addr().Compare(b.Addr()) })
	if !slices.Equal(all, c.Endpoints()) || !errors.Is(f.Err, refused) {
		t.Errorf("got %+v", f)
	}
}

// TestRaceEndsInTime: nobody waits longer than his own time.
func TestRaceEndsInTime(t *testing.T) {
	c := newCourse(t)
	over := errors.New("the time is over")
	ctx, cancel := context.WithDeadlineCause(t.Context(), time.Now(), over)
	defer cancel()
	if f := <-c.run(ctx); !errors.Is(f.Err, over) || f.Endpoint != c.endpoint(1) {
		t.Errorf("got %+v", f)
	}
	for _, ended := range c.ended {
		close(ended)
	}
}
