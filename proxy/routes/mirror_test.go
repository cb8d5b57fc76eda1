package routes

import (
	"math/rand/v2"
	"testing"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

func TestShadowOf(t *testing.T) {
	for authority, want := range map[string]string{
		"web":          "web-shadow",
		"web.shop:80":  "web.shop-shadow:80",
		"10.0.0.1":     "10.0.0.1-shadow",
		"[fd00::1]:80": "[fd00::1]-shadow:80",
	} {
		if got := shadowOf(authority); got != want {
			t.Errorf("%s: %s, want %s", authority, got, want)
		}
	}
}

// TestShares: of many draws, the share is about what it says.
func TestShares(t *testing.T) {
	for _, share := range []config.Share{1000, 125_000, 500_000, 999_000} {
		source := rand.New(rand.NewPCG(1, 2))
		const draws = 1_000_000
		hits := 0
		for range draws {
			if drawn(share, source.Uint32N) {
				hits++
			}
		}
		if want := float64(share); float64(hits) < 0.9*want || float64(hits) > 1.1*want {
			t.Errorf("%d millionths: %d of a million", share, hits)
		}
	}
	if Draw(0) || !Draw(config.Whole) {
		t.Error("none and all are drawn, too")
	}
}
