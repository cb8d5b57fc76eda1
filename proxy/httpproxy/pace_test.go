package httpproxy

import (
	"testing"
	"time"
)

// TestPace: many dials at once to who answers quickly, few to who is slow, and never none.
func TestPace(t *testing.T) {
	var p pace
	if p.limit() != firstPace {
		t.Errorf("it begins with %d", p.limit())
	}
	steps := []struct {
		name       string
		times      int
		took       time.Duration
		good, late bool
		limit      int
	}{
		{"quick ones", 8, 10 * time.Millisecond, true, false, 2 * firstPace},
		{"refusals", 50, time.Millisecond, false, false, 2 * firstPace},
		{"a slow one", 1, time.Second, true, false, firstPace},
		{"one that failed late", 1, time.Second, false, true, firstPace / 2},
		{"many that failed late", 50, time.Second, false, true, leastPace},
		{"quick ones again", 1000, time.Millisecond, true, false, mostPace},
	}
	for _, s := range steps {
		for range s.times {
			p.note(s.took, s.good, s.late)
		}
		if p.limit() != s.limit {
			t.Errorf("after %s the limit is %d, want %d", s.name, p.limit(), s.limit)
		}
	}
}
