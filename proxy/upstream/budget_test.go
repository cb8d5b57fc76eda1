package upstream

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// TestRetryBudget: a fifth of the requests of the last ten seconds, and ten a second
// in any case.
func TestRetryBudget(t *testing.T) {
	b := budget{store: budgetStore}
	now, began := int64(0), int64(0)
	second := func(requests, wanted int64) (granted int) {
		for range 10 {
			now += int64(time.Second / 10)
			began += requests / 10
			for range wanted / 10 {
				if b.take(now, began) {
					granted++
					began++
				}
			}
		}
		return granted
	}
	spend := func(seconds int, requests, wanted int64) (granted int) {
		for range seconds {
			granted += second(requests, wanted)
		}
		return granted
	}

	if got := spend(60, 1000, 10); got != 600 {
		t.Errorf("of 600 retries that are few %d were granted", got)
	}
	// A storm: what was paid in and stored is spent at first, and after that a fifth.
	if got := second(1000, 5000); got < 1000 || got > 2310 {
		t.Errorf("in its first second %d retries were granted, want those of ten seconds at most", got)
	}
	spend(20, 1000, 5000)
	if got := spend(10, 1000, 5000); got < 2000 || got > 2200 {
		t.Errorf("in ten seconds of storm %d retries were granted for 10000 requests", got)
	}
	spend(30, 0, 10)
	if got := spend(10, 0, 5000); got < 90 || got > 110 {
		t.Errorf("without requests %d retries were granted in ten seconds, want ten a second", got)
	}
}

// TestRetryBudgetAfterSilence: what was paid in long ago is worth nothing.
func TestRetryBudgetAfterSilence(t *testing.T) {
	b := budget{store: budgetStore}
	granted := 0
	for b.take(int64(time.Hour), 36_000) { // ten a second
		granted++
	}
	if granted < 115 || granted > 125 {
		t.Errorf("%d retries were granted, want what was stored and two a second for ten", granted)
	}
}

// TestRetriesByNumber: Envoy's limits, where they are asked for.
func TestRetriesByNumber(t *testing.T) {
	none := uint32(config.NoLimit)
	cases := map[string]struct {
		limits config.Limits
		active int
		want   int
	}{
		"max_retries":            {config.Limits{Connections: none, Pending: none, Requests: none, Retries: 2}, 100, 2},
		"none at all":            {config.Limits{Connections: none, Pending: none, Requests: none}, 100, 0},
		"a budget, few requests": {config.Limits{Connections: none, Pending: none, Requests: none, Budget: &config.RetryBudget{Percent: 20, MinConcurrency: 3}}, 5, 3},
		"a budget":               {config.Limits{Connections: none, Pending: none, Requests: none, Budget: &config.RetryBudget{Percent: 20, MinConcurrency: 3}}, 50, 10},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			m := newMesh(t, &config.Cluster{Limits: &c.limits}, locality(0, at(1)))
			for range c.active {
				if !m.endpoint(1).Begin() {
					t.Fatal("a request was refused")
				}
			}
			for range c.want {
				if !m.BeginRetry() {
					t.Fatal("too few are granted")
				}
			}
			if m.BeginRetry() {
				t.Fatal("too many are granted")
			}
			if n, refused := m.told(EventRetry), m.told(EventRetryOverflow); n != c.want || refused != 1 {
				t.Errorf("told of %d retries and %d that were refused", n, refused)
			}
			if c.want > 0 {
				m.EndRetry()
				if !m.BeginRetry() {
					t.Error("one that is over still counts")
				}
			}
		})
	}
}
