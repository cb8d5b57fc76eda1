package identity

import (
	"testing"
	"time"
)

func TestRenewAt(t *testing.T) {
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	to := from.Add(24 * time.Hour)
	for r, want := range map[float64]time.Duration{
		0:   24 * time.Hour * 4 / 10,
		0.5: 12 * time.Hour,
		1:   24 * time.Hour * 6 / 10,
	} {
		if got := renewAt(from, to, r).Sub(from).Round(time.Second); got != want {
			t.Errorf("renewAt with %v is after %s, want %s", r, got, want)
		}
	}
}

func TestBackoffGrowsToABound(t *testing.T) {
	for n, bounds := range map[int][2]time.Duration{
		0:    {150 * time.Millisecond, 250 * time.Millisecond},
		1:    {225 * time.Millisecond, 375 * time.Millisecond},
		50:   {11 * time.Second, 19 * time.Second},
		1000: {11 * time.Second, 19 * time.Second},
	} {
		for range 100 {
			if d := backoff(n); d < bounds[0] || d > bounds[1] {
				t.Fatalf("backoff(%d) = %s, want %v", n, d, bounds)
			}
		}
	}
}
