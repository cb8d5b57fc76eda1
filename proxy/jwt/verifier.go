package jwt

import (
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// Verifier is a filter made ready. It is safe for concurrent use. A nil Verifier lets every
// request pass as it is.
type Verifier struct {
	filter *config.TokenFilter
	places []place
	// outputs are the header fields that are filled from tokens.
	outputs []string
	cache   *cache
}

// New makes a filter ready; it returns nil when there is none.
func New(filter *config.TokenFilter) *Verifier {
	if filter == nil {
		return nil
	}
	v := &Verifier{filter: filter, cache: newCache(cacheSize)}
	for i := range filter.Providers {
		p := &filter.Providers[i]
		v.addPlaces(i, p)
		if p.PayloadHeader != "" {
			v.addOutput(p.PayloadHeader)
		}
		for _, c := range p.ClaimHeaders {
			v.addOutput(c.Header)
		}
	}
	return v
}

func (v *Verifier) addOutput(name string) {
	if !slices.Contains(v.outputs, name) {
		v.outputs = append(v.outputs, name)
	}
}

// Fields are the header fields of a request.
type Fields interface {
	// Field returns field i, in any case of its name, and whether there are as many. One
	// that is not passed on has an empty name.
	Field(i int) (name, value string, more bool)
}

// Request is what is known of a request.
type Request struct {
	Fields Fields
	Path   string // with its query
}

// Verdict says what becomes of a request.
type Verdict struct {
	// Refused is why it is refused, in Envoy's words; "" lets it pass.
	Refused string
	// Missing tells that it is refused for want of a token, not for a bad one.
	Missing bool

	// Claims are those of the token that counts; nil where none was verified. Nobody may
	// change them: later requests with the token get the same.
	Claims map[string]any
	// Drop are the names, in lower case, of header fields to take away before Add.
	Drop []string
	Add  []Field
	// Path is that of the request, without the tokens that were in its query.
	Path string
}

// Field is a header field.
type Field struct{ Name, Value string }

// Check verifies the tokens of a request.
func (v *Verifier) Check(r *Request, now time.Time) Verdict {
	if v == nil {
		return Verdict{Path: r.Path}
	}
	c := check{v: v, now: now}
	if refused := c.find(r); refused != "" {
		return Verdict{Refused: refused}
	}
	if st := c.satisfies(&v.filter.Require); st != "" {
		return Verdict{Refused: st, Missing: st == missing}
	}
	return c.verdict(r)
}

// check is the verification of one request.
type check struct {
	v   *Verifier
	now time.Time
	// found are the tokens of the request, in the order of the places.
	found  []found
	source int // of what is looked at
	// accepted are those that the requirements asked for and that were verified, in the
	// order in which they were.
	accepted []*accepted
	// dropped are header fields that hold something of which only verified tokens may
	// speak.
	dropped []string
}

// accepted is a verified token.
type accepted struct {
	provider *config.TokenProvider
	found    *found
	token    *verified
}

// satisfies returns "" if a requirement is met, else why not.
func (c *check) satisfies(q *config.TokenRequirement) string {
	switch q.Kind {
	case config.RequireProvider:
		return c.provider(q.Provider)
	case config.RequireMissing:
		return c.allOrMissing()
	case config.RequireAll:
		for i := range q.Of {
			if refused := c.satisfies(&q.Of[i]); refused != "" {
				return refused
			}
		}
		return ""
	}

	// Of several reasons the one counts that is about a token of the issuer that was asked
	// for, as in Envoy.
	refused := ""
	for i := range q.Of {
		one := c.satisfies(&q.Of[i])
		if one == "" {
			return ""
		}
		if telling(one) >= telling(refused) {
			refused = one
		}
	}
	return refused
}

// telling orders reasons by how much they say.
func telling(refused string) int {
	switch refused {
	case "":
		return 0
	case missing:
		return 1
	case unknownIssuer:
		return 2
	}
	return 3
}

// provider asks for a token, at one of the places of a provider, that it verifies.
func (c *check) provider(i int) string {
	refused := missing
	for k := range c.found {
		f := &c.found[k]
		if !slices.Contains(c.v.places[f.place].providers, i) {
			continue
		}
		token, why := c.v.verify(i, f, c.now)
		if why == "" {
			c.accept(i, f, token)
			return ""
		}
		refused = why
	}
	return refused
}

// allOrMissing asks that all tokens that are there are verified by one of the providers
// that look for them where they are.
func (c *check) allOrMissing() string {
	for k := range c.found {
		i, token, why := c.byAny(&c.found[k])
		if why != "" {
			return why
		}
		c.accept(i, &c.found[k], token)
	}
	return ""
}

// byAny asks all providers that look for a token where it is.
func (c *check) byAny(f *found) (int, *verified, string) {
	refused := unknownIssuer
	for _, i := range c.v.places[f.place].providers {
		token, why := c.v.verify(i, f, c.now)
		if why == "" {
			return i, token, ""
		}
		if why != unknownIssuer {
			refused = why
		}
	}
	return 0, nil, refused
}

func (c *check) accept(i int, f *found, token *verified) {
	for _, a := range c.accepted {
		if a.found == f {
			return
		}
	}
	c.accepted = append(c.accepted, &accepted{&c.v.filter.Providers[i], f, token})
}

// verdict lets a request pass: with the claims of the first token that counts, with the
// fields that verified ones fill, and without those tokens that are not to be forwarded.
func (c *check) verdict(r *Request) Verdict {
	out := Verdict{Path: r.Path}
	c.removeTokens(r, &out)
	out.Drop = c.dropped
	if len(c.accepted) == 0 {
		return out
	}

	out.Claims = c.accepted[0].token.claims
	for _, a := range c.accepted {
		for _, f := range a.token.outputs {
			if !slices.ContainsFunc(out.Add, func(o Field) bool { return o.Name == f.Name }) {
				out.Add = append(out.Add, f)
			}
		}
	}
	return out
}

// forwards tells whether a token stays in the request: if whoever verified it says so. One
// that was not asked for is verified here, as an application may read it all the same.
func (c *check) forwards(f *found) bool {
	for _, a := range c.accepted {
		if a.found == f {
			return a.provider.Forward
		}
	}
	i, _, why := c.byAny(f)
	return why == "" && c.v.filter.Providers[i].Forward
}

// sameName tells whether an application may take a field's name for another in lower case:
// some take "_" for "-".
func sameName(name, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	for i := range len(name) {
		a, b := name[i], lower[i]
		if 'A' <= a && a <= 'Z' {
			a += 'a' - 'A'
		}
		if a == b || (a == '_' || a == '-') && (b == '_' || b == '-') {
			continue
		}
		return false
	}
	return true
}

// cutPrefixFold cuts a prefix off, whatever the case of its letters: the scheme before a
// token differs by it in nothing (RFC 9110 section 11.1).
func cutPrefixFold(s, prefix string) (rest string, has bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return "", false
	}
	return s[len(prefix):], true
}
