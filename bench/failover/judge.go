package failover

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/bench/failover/record"
)

// Times are the moments of one run, by the clock that the clients share.
type Times struct {
	// From is since when requests count.
	From time.Time
	// Broke is just before the fault; Healed is when what made it had been
	// taken back, or had come to its end by itself.
	Broke, Healed time.Time
}

// Figures are what one client saw with one method.
type Figures struct {
	Sent, Failed int
	// Slowest is of the answers that came after the break, SlowestBefore of
	// those before: what this machine makes of a mesh with nothing amiss.
	Slowest, SlowestBefore time.Duration
	// LastAffected is how long after the break the last request was due that
	// failed or was slow.
	LastAffected time.Duration
	// Back is how long after Healed the last request was due that was not
	// answered by the near cluster; Near says that those after it were.
	Back time.Duration
	Near bool
	// Whys are the reasons of failures, the most frequent first.
	Whys []string
}

// slow is from where on a request counts as affected, if none was so slow before
// the break.
const slow = 100 * time.Millisecond

// judge looks at what one client sent with one method.
func judge(list []record.Request, near string, at Times) Figures {
	f := Figures{Sent: len(list)}
	for i := range list {
		r := &list[i]
		switch before := r.End().Before(at.Broke); {
		case !r.OK():
			f.Failed++
		case before:
			f.SlowestBefore = max(f.SlowestBefore, r.Took)
		default:
			f.Slowest = max(f.Slowest, r.Took)
		}
	}

	limit := max(slow, f.SlowestBefore)
	var lastDue time.Time
	for i := range list {
		r := &list[i]
		if r.Due.After(lastDue) {
			lastDue = r.Due
			f.Near = isNear(r, near)
		}
		if r.End().After(at.Broke) && (!r.OK() || r.Took > limit) {
			f.LastAffected = max(f.LastAffected, r.Due.Sub(at.Broke))
		}
		if !isNear(r, near) {
			f.Back = max(f.Back, r.Due.Sub(at.Healed))
		}
	}
	f.Whys = whys(list)
	return f
}

func isNear(r *record.Request, near string) bool {
	cluster, _, _ := strings.Cut(r.By, "/")
	return r.OK() && cluster == near
}

// maxWhys bounds the reasons that are kept.
const maxWhys = 3

// whys counts the reasons of failures.
func whys(list []record.Request) []string {
	count := map[string]int{}
	for i := range list {
		if !list[i].OK() {
			count[list[i].Why]++
		}
	}
	reasons := slices.SortedFunc(maps.Keys(count), func(a, b string) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b))
	})
	return reasons[:min(len(reasons), maxWhys)]
}

// duplicates counts the lines that stand in the lists more than once: requests
// that an application acted on again.
func duplicates(lists ...string) int {
	seen, twice := map[string]bool{}, map[string]bool{}
	for _, list := range lists {
		for line := range strings.Lines(list) {
			if seen[line] {
				twice[line] = true
			}
			seen[line] = true
		}
	}
	return len(twice)
}
