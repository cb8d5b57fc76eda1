package access

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// Policy is the filters of a chain made ready. It is immutable. A nil Policy lets
// everybody pass.
type Policy struct {
	filters []filter
	// facts are the tests of connections; nodes refer to them by their place.
	facts []*config.AccessTest
}

type filter struct {
	rules, shadow *rules
	counts        Counts
}

type rules struct {
	deny     bool
	policies []policy
}

type policy struct {
	details string // of what it refuses
	// conn and request are the tests that must all hold, those first that the
	// connection decides, so that they are not asked again for each request.
	conn, request []node
}

// Counts are the counters of one filter, under Envoy's names.
type Counts struct {
	Allowed, Denied, ShadowAllowed, ShadowDenied Counter
}

// Counter counts decisions; it is safe for concurrent use.
type Counter interface{ Inc() }

// Counters gives the counters of a filter with the prefix of its shadow rules.
type Counters func(shadowPrefix string) Counts

// detailsOf is what Envoy says of a refusal in its response code details.
func detailsOf(policy string) string { return "rbac_access_denied_matched_policy[" + policy + "]" }

// noneMatched is the detail of a refusal by rules that allow.
var noneMatched = detailsOf("none")

// Compile makes filters ready; it returns nil when there are none.
func Compile(filters []*config.AccessFilter, counters Counters) *Policy {
	if len(filters) == 0 {
		return nil
	}
	p := &Policy{}
	for _, f := range filters {
		p.filters = append(p.filters, filter{
			rules: p.compileRules(f.Rules), shadow: p.compileRules(f.Shadow), counts: counters(f.ShadowPrefix),
		})
	}
	return p
}

func (p *Policy) compileRules(r *config.AccessRules) *rules {
	if r == nil {
		return nil
	}
	out := &rules{deny: r.Deny}
	for i := range r.Policies {
		test := &r.Policies[i].Test
		one := policy{details: detailsOf(r.Policies[i].Name)}
		for _, n := range p.compileTest(test, r.Deny).conjuncts() {
			if n.ofConnection() {
				one.conn = append(one.conn, n)
			} else {
				one.request = append(one.request, n)
			}
		}
		// What tells most rules apart, and costs least, comes first.
		slices.SortStableFunc(one.request, func(a, b node) int { return cmp.Compare(a.effort(), b.effort()) })
		out.policies = append(out.policies, one)
	}
	return out
}

// Connection is what is known of a connection.
type Connection struct {
	// Principal is the identity that the peer proved, "" for none.
	Principal string
	Peer      netip.Addr
	Local     netip.AddrPort // that was called
	SNI       string
}

// holds tells whether a test of connections is satisfied.
func (c *Connection) holds(t *config.AccessTest) bool {
	switch t.Kind {
	case config.AccessPrincipal:
		return c.Principal != "" && t.Text.Match(c.Principal)
	case config.AccessPeerIP:
		return t.Prefix.Contains(c.Peer.Unmap())
	case config.AccessLocalIP:
		return t.Prefix.Contains(c.Local.Addr().Unmap())
	case config.AccessLocalPort:
		return c.Local.Port() == t.Port
	}
	return t.Text.Match(c.SNI)
}

// Caller is who is at the other end of a connection, and what that decides. It is
// immutable. A nil Caller may do everything.
type Caller struct {
	policy  *Policy
	conn    Connection
	facts   []bool
	filters []pending
}

// pending are the policies of a filter that the connection does not rule out.
type pending struct{ rules, shadow []*policy }

// For finds out what a connection decides; nil when nothing is asked.
func (p *Policy) For(conn Connection) *Caller {
	if p == nil {
		return nil
	}
	c := &Caller{policy: p, conn: conn, facts: make([]bool, len(p.facts)), filters: make([]pending, len(p.filters))}
	for i, t := range p.facts {
		c.facts[i] = conn.holds(t)
	}
	for i := range p.filters {
		c.filters[i] = pending{c.pending(p.filters[i].rules), c.pending(p.filters[i].shadow)}
	}
	return c
}

func (c *Caller) pending(r *rules) []*policy {
	if r == nil {
		return nil
	}
	var out []*policy
	for i := range r.policies {
		if c.byConnection(&r.policies[i]) != no {
			out = append(out, &r.policies[i])
		}
	}
	return out
}

// answer is what a connection says of a test.
type answer uint8

const (
	no answer = iota
	yes
	open // it depends on the request
)

// byConnection tells what the connection alone says of a policy.
func (c *Caller) byConnection(p *policy) answer {
	for i := range p.conn {
		if !c.satisfies(&p.conn[i], nil) {
			return no
		}
	}
	return c.every(p.request)
}

// every is the answer to tests that must all hold.
func (c *Caller) every(of []node) answer { return c.fold(of, no, yes) }

// ask tells what the connection alone says of a test.
func (c *Caller) ask(n *node) answer {
	switch n.kind {
	case config.AccessAlways:
		return yes
	case config.AccessAll:
		return c.every(n.of)
	case config.AccessAny:
		return c.fold(n.of, yes, no)
	case config.AccessNot:
		switch c.ask(&n.of[0]) {
		case yes:
			return no
		case no:
			return yes
		}
		return open
	}
	if !n.kind.OfConnection() {
		return open
	}
	if c.facts[n.fact] {
		return yes
	}
	return no
}

// fold is decisive if the answer to one of the tests is, open if one is, else other.
func (c *Caller) fold(of []node, decisive, other answer) answer {
	out := other
	for i := range of {
		switch c.ask(&of[i]) {
		case decisive:
			return decisive
		case open:
			out = open
		}
	}
	return out
}

// Decide tells whether a request may pass; of one that may not it gives Envoy's response
// code details. It counts the decision. With a nil request it decides about the
// connection itself.
func (c *Caller) Decide(r *Request) (details string, allowed bool) {
	if c == nil {
		return "", true
	}
	if r == nil {
		r = &Request{}
	}
	r.peer = c.conn.Peer
	r.readPath()

	for i := range c.filters {
		f, left := &c.policy.filters[i], &c.filters[i]
		if f.shadow != nil {
			_, passed := c.judge(f.shadow, left.shadow, r)
			count(passed, f.counts.ShadowAllowed, f.counts.ShadowDenied)
		}
		if f.rules == nil {
			continue
		}
		details, allowed := c.judge(f.rules, left.rules, r)
		count(allowed, f.counts.Allowed, f.counts.Denied)
		if !allowed {
			return details, false
		}
	}
	return "", true
}

// Allows is Decide about the connection without counting.
func (c *Caller) Allows() bool {
	if c == nil {
		return true
	}
	r := Request{peer: c.conn.Peer}
	for i := range c.filters {
		if rules := c.policy.filters[i].rules; rules != nil {
			if _, allowed := c.judge(rules, c.filters[i].rules, &r); !allowed {
				return false
			}
		}
	}
	return true
}

// Barred tells whether the connection alone decides that no request may pass.
func (c *Caller) Barred() bool {
	if c == nil {
		return false
	}
	for i := range c.filters {
		rules, left := c.policy.filters[i].rules, c.filters[i].rules
		switch {
		case rules == nil:
		case !rules.deny && len(left) == 0:
			return true
		case rules.deny && slices.ContainsFunc(left, func(p *policy) bool { return c.byConnection(p) == yes }):
			return true
		}
	}
	return false
}

func (c *Caller) judge(r *rules, left []*policy, q *Request) (details string, allowed bool) {
	for _, p := range left {
		if c.satisfiesAll(p.request, q) {
			return p.details, !r.deny
		}
	}
	return noneMatched, r.deny
}

func count(allowed bool, yes, no Counter) {
	if !allowed {
		yes = no
	}
	if yes != nil {
		yes.Inc()
	}
}

func (c *Caller) satisfiesAll(of []node, r *Request) bool {
	for i := range of {
		n := &of[i]
		if n.plain && n.kind == config.AccessPath && !r.odd { // most often
			if !n.compares(r.sent) {
				return false
			}
			continue
		}
		if !c.satisfies(n, r) {
			return false
		}
	}
	return true
}

func (c *Caller) satisfies(n *node, r *Request) bool {
	switch n.kind {
	case config.AccessAlways:
		return true
	case config.AccessAll:
		return c.satisfiesAll(n.of, r)
	case config.AccessAny:
		for i := range n.of {
			if c.satisfies(&n.of[i], r) {
				return true
			}
		}
		return false
	case config.AccessNot:
		return !c.satisfies(&n.of[0], r)
	case config.AccessRemoteIP:
		return n.test.Prefix.Contains(r.remote())
	case config.AccessHeader:
		return n.field(r)
	case config.AccessPath, config.AccessTemplate:
		return n.path(r)
	case config.AccessClaim:
		return n.claim(r.Claims)
	}
	return c.facts[n.fact]
}
