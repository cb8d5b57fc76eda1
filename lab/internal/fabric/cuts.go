package fabric

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/lab/internal/plan"
)

// Mode says what happens to packets between two parted clusters.
type Mode string

const (
	// Drop loses packets in silence: callers run into their time-outs.
	Drop Mode = "drop"
	// Reject answers at once: TCP with a reset, the rest with ICMP.
	Reject Mode = "reject"
)

// Pair is two clusters, the one of lower index first.
type Pair struct{ A, B plan.Cluster }

// NewPair puts two different clusters in order.
func NewPair(a, b plan.Cluster) (Pair, error) {
	if a.Index == b.Index {
		return Pair{}, fmt.Errorf("%s cannot be parted from itself: name two clusters", a.Name())
	}
	if a.Index > b.Index {
		a, b = b, a
	}
	return Pair{a, b}, nil
}

// Cuts are the pairs of clusters that do not reach each other.
type Cuts map[Pair]Mode

// rules is the nftables script for the cuts; it replaces the one before.
func (c Cuts) rules() string {
	var b strings.Builder
	b.WriteString("table ip isthmus-fabric\ndelete table ip isthmus-fabric\ntable ip isthmus-fabric {\n\tchain forward {\n\t\ttype filter hook forward priority 0; policy accept;\n")
	pairs := slices.SortedFunc(maps.Keys(c), func(x, y Pair) int {
		return (x.A.Index-y.A.Index)*plan.MaxClusters + x.B.Index - y.B.Index
	})
	for _, p := range pairs {
		for _, way := range [][2]string{{p.A.Link(), p.B.Link()}, {p.B.Link(), p.A.Link()}} {
			match := fmt.Sprintf("\t\tiifname %q oifname %q ", way[0], way[1])
			if c[p] == Reject {
				b.WriteString(match + "meta l4proto tcp reject with tcp reset\n")
				b.WriteString(match + "reject with icmp type host-unreachable\n")
			} else {
				b.WriteString(match + "drop\n")
			}
		}
	}

	b.WriteString("\t}\n}\n")
	return b.String()
}

// Cut parts two clusters; a pair that is parted already takes the new mode.
func (f *Fabric) Cut(ctx context.Context, p Pair, mode Mode) error {
	if mode != Drop && mode != Reject {
		return fmt.Errorf("partition mode %q: must be %q or %q", mode, Drop, Reject)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changeLocked(ctx, func(cuts Cuts) { cuts[p] = mode })
}

// Heal joins what was parted, all of it.
func (f *Fabric) Heal(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changeLocked(ctx, func(cuts Cuts) { clear(cuts) })
}

// changeLocked carries changed cuts out; when that fails, those before stay, in force
// and in what is told of them.
func (f *Fabric) changeLocked(ctx context.Context, how func(Cuts)) error {
	before := f.cuts
	f.cuts = maps.Clone(before)
	how(f.cuts)
	if err := f.applyLocked(ctx); err != nil {
		f.cuts = before
		return err
	}
	return nil
}

// Cuts returns the present cuts.
func (f *Fabric) Cuts() Cuts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.cuts)
}
