package access

import (
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// node is a compiled test. It holds beside one another what is compared with each
// request: of a hundred rules, most are passed over.
type node struct {
	kind config.AccessKind
	part part // of a test of a header field
	// plain is set where text is compared as match says; else the test's own matcher is
	// asked.
	plain bool
	match config.MatchKind
	// wide tells that where a request can be read in several ways the test is satisfied
	// if one of them does so; else all have to. It is chosen so that in doubt nobody is
	// let in.
	wide bool
	// literal tells that the text to compare with holds itself what makes paths
	// ambiguous: then the path is compared as it is sent on, and in no other reading.
	literal bool
	fact    int32 // the place of a test of the connection among Policy.facts
	text    string
	of      []node
	test    *config.AccessTest
}

// compileTest makes a test ready. Tests of one in a list are that one.
func (p *Policy) compileTest(t *config.AccessTest, wide bool) node {
	if (t.Kind == config.AccessAll || t.Kind == config.AccessAny) && len(t.Of) == 1 {
		return p.compileTest(&t.Of[0], wide)
	}

	n := node{kind: t.Kind, wide: wide, test: t}
	switch {
	case t.Kind.OfConnection():
		n.fact = int32(len(p.facts))
		p.facts = append(p.facts, t)
	case t.Kind == config.AccessPath:
		n.literal = ambiguous(t.Text.Value)
		n.compare(&t.Text)
	case t.Kind == config.AccessTemplate:
		n.literal = ambiguous(t.Template.String())
	case t.Kind == config.AccessHeader:
		n.part = partOf(t.Header.Name)
		n.wide = wide != t.Header.Invert
		if !t.Header.Present && !t.Header.Invert {
			n.compare(&t.Header.Value)
		}
	case t.Kind == config.AccessNot:
		wide = !wide
	}
	for i := range t.Of {
		n.of = append(n.of, p.compileTest(&t.Of[i], wide))
	}
	return n
}

// compare notes what is compared, if that is simple.
func (n *node) compare(m *config.StringMatch) {
	n.match, n.text = m.Kind, m.Value
	n.plain = !m.IgnoreCase && (m.Kind == config.MatchExact || m.Kind == config.MatchPrefix || m.Kind == config.MatchSuffix)
}

// compares is the comparison of a plain node.
func (n *node) compares(s string) bool {
	switch n.match {
	case config.MatchExact:
		return s == n.text
	case config.MatchPrefix:
		return strings.HasPrefix(s, n.text)
	}
	return strings.HasSuffix(s, n.text)
}

// effort orders tests by what they cost.
func (n *node) effort() int {
	switch {
	case n.plain && n.kind == config.AccessPath:
		return 0
	case n.plain && n.part != none:
		return 1
	}
	return 2
}

// conjuncts are tests that must all hold for this one to.
func (n node) conjuncts() []node {
	if n.kind != config.AccessAll {
		return []node{n}
	}
	var out []node
	for _, one := range n.of {
		out = append(out, one.conjuncts()...)
	}
	return out
}

// ofConnection tells whether the connection alone decides the test.
func (n *node) ofConnection() bool {
	if n.kind.OfRequest() || n.kind == config.AccessRemoteIP {
		return false
	}
	return !slices.ContainsFunc(n.of, func(one node) bool { return !one.ofConnection() })
}

// path compares the path.
func (n *node) path(r *Request) bool {
	fits := n.fits(r.sent)
	switch {
	case n.literal || !r.odd:
		return fits
	case n.wide:
		return fits || n.fits(r.read)
	}
	return fits && n.fits(r.read)
}

func (n *node) fits(path string) bool {
	switch {
	case n.plain:
		return n.compares(path)
	case n.kind == config.AccessTemplate:
		return n.test.Template.Match(path)
	}
	return n.test.Text.Match(path)
}
