package fabric

import (
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/lab/internal/plan"
)

func cluster(i int) plan.Cluster { return plan.Cluster{Index: i} }

func pair(t *testing.T, a, b int) Pair {
	t.Helper()
	p, err := NewPair(cluster(a), cluster(b))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPairsHaveOneOrder(t *testing.T) {
	if pair(t, 1, 2) != pair(t, 2, 1) {
		t.Error("a pair depends on the order of its clusters")
	}
	if _, err := NewPair(cluster(1), cluster(1)); err == nil {
		t.Error("a cluster is parted from itself")
	}
}

func TestRulesCutBothWays(t *testing.T) {
	rules := Cuts{pair(t, 1, 2): Drop, pair(t, 3, 2): Reject}.rules()
	for _, want := range []string{
		`iifname "node-1" oifname "node-2" drop`,
		`iifname "node-2" oifname "node-1" drop`,
		`iifname "node-2" oifname "node-3" meta l4proto tcp reject with tcp reset`,
		`iifname "node-3" oifname "node-2" reject with icmp type host-unreachable`,
	} {
		if !strings.Contains(rules, want) {
			t.Errorf("no %q in\n%s", want, rules)
		}
	}
	if strings.Contains(rules, `"node-1" oifname "node-3"`) {
		t.Errorf("a pair that is not parted is cut:\n%s", rules)
	}
}

func TestNoCutsNoRules(t *testing.T) {
	rules := Cuts{}.rules()
	if strings.Contains(rules, "iifname") || !strings.Contains(rules, "delete table") {
		t.Errorf("healing leaves rules:\n%s", rules)
	}
}
