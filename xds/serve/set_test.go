package serve

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestSets holds Sets against maps: whatever is changed in them, one after the other,
// they hold the same, and tell the same difference as a look at everything does.
func TestSets(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		want := map[string]*Resource{}
		for i := range rnd.IntN(100) {
			name := fmt.Sprint("r", i)
			want[name] = &Resource{Name: name, Version: "1"}
		}

		set := NewSet(maps.Clone(want))
		history := []Set{set, NewSet(nil)}
		states := []map[string]*Resource{maps.Clone(want), {}}
		for step := range 60 {
			change := map[string]*Resource{}
			for range rnd.IntN(4) {
				name := fmt.Sprint("r", rnd.IntN(120))
				switch rnd.IntN(4) {
				case 0:
					change[name] = nil
					delete(want, name)
				case 1: // another one that says the same
					change[name] = &Resource{Name: name, Version: "1"}
					want[name] = change[name]
				default:
					change[name] = &Resource{Name: name, Version: fmt.Sprint(step)}
					want[name] = change[name]
				}
			}
			set = set.With(change)
			history, states = append(history, set), append(states, maps.Clone(want))

			if got := set.Map(); !maps.Equal(got, want) || set.Len() != len(want) {
				t.Fatalf("seed %d, step %d: %d resources %v, want %d %v", seed, step, set.Len(), got, len(want), want)
			}
			back := rnd.IntN(len(history))
			changed, removed := set.since(history[back])
			wantChanged, wantRemoved := difference(want, states[back])
			if !slices.Equal(changed, wantChanged) || !slices.Equal(removed, wantRemoved) {
				t.Fatalf("seed %d, step %d: changed %v, removed %v; want %v, %v", seed, step, changed, removed, wantChanged, wantRemoved)
			}
		}
	}
}

// difference looks at everything.
func difference(now, old map[string]*Resource) (changed []*Resource, removed []string) {
	for name, r := range now {
		if was := old[name]; was == nil || was.Version != r.Version {
			changed = append(changed, r)
		}
	}
	for name := range old {
		if now[name] == nil {
			removed = append(removed, name)
		}
	}
	sortByName(changed)
	slices.Sort(removed)
	return changed, removed
}

// TestSetsShare: a change of one resource of many costs no copy of all, and one that
// changes nothing no Set.
func TestSetsShare(t *testing.T) {
	all := map[string]*Resource{}
	for i := range 10_000 {
		name := fmt.Sprint("r", i)
		all[name] = &Resource{Name: name, Version: "1"}
	}
	set := NewSet(all)
	next := set.With(map[string]*Resource{"r7": {Name: "r7", Version: "2"}})
	if !same(set.base, next.base) || len(next.over) != 1 {
		t.Errorf("%d resources beside the base", len(next.over))
	}
	if !same(next.With(nil).over, next.over) {
		t.Error("no change, and another Set")
	}
}
