package jwt

import (
	"net/url"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// Limits of what is looked at in one request.
const (
	maxToken  = 16 << 10
	maxTokens = 8
)

// placeKind is a part of a request in which tokens are looked for.
type placeKind uint8

const (
	inHeader placeKind = iota
	inParam
	inCookie
)

// place is where tokens are looked for.
type place struct {
	kind         placeKind
	name, prefix string // the prefix of a header field alone
	providers    []int  // that look there
}

// found is a token of a request.
type found struct {
	place  int
	text   string
	field  string // the name of its header field, as it came
	source int    // tells fields, and pairs of the query or of cookies, apart
	digest digest
	known  bool // the digest is
}

// addPlaces adds those of a provider.
func (v *Verifier) addPlaces(i int, p *config.TokenProvider) {
	add := func(kind placeKind, name, prefix string) {
		for k := range v.places {
			if o := &v.places[k]; o.kind == kind && o.name == name && o.prefix == prefix {
				if !slices.Contains(o.providers, i) {
					o.providers = append(o.providers, i)
				}
				return
			}
		}
		v.places = append(v.places, place{kind, name, prefix, []int{i}})
	}
	for _, h := range p.Headers {
		add(inHeader, h.Name, h.Prefix)
	}
	for _, name := range p.Params {
		add(inParam, name, "")
	}
	for _, name := range p.Cookies {
		add(inCookie, name, "")
	}
}

// find gathers the tokens of a request, and the header fields that only verified tokens may
// fill. It returns why a request is refused before any token is verified.
func (c *check) find(r *Request) (refused string) {
	for i := 0; ; i++ {
		name, value, more := r.Fields.Field(i)
		if !more {
			break
		}
		for _, out := range c.v.outputs {
			if sameName(name, out) {
				c.drop(name)
			}
		}
		if refused = c.findInField(name, value); refused != "" {
			return refused
		}
		c.source++
	}
	_, query, _ := strings.Cut(r.Path, "?")
	return c.findInQuery(query)
}

// drop has a header field taken away.
func (c *check) drop(name string) {
	if name = strings.ToLower(name); !slices.Contains(c.dropped, name) {
		c.dropped = append(c.dropped, name)
	}
}

func (c *check) findInField(name, value string) (refused string) {
	cookie := strings.EqualFold(name, "cookie")
	for i := range c.v.places {
		p := &c.v.places[i]
		switch {
		case p.kind == inHeader && sameName(name, p.name):
			// Without its prefix it is something else, as a password.
			if text, has := cutPrefixFold(value, p.prefix); has {
				if refused = c.add(i, name, strings.TrimSpace(text)); refused != "" {
					return refused
				}
			}
		case p.kind == inCookie && cookie:
			for pair := range strings.SplitSeq(value, ";") {
				if text, has := cookieOf(pair, p.name); has {
					if refused = c.add(i, name, text); refused != "" {
						return refused
					}
				}
				c.source++
			}
		}
	}
	return ""
}

// cookieOf returns the value of a pair of a Cookie field, if it has the name.
func cookieOf(pair, name string) (value string, has bool) {
	key, value, _ := strings.Cut(pair, "=")
	if strings.TrimSpace(key) != name {
		return "", false
	}
	return strings.Trim(strings.TrimSpace(value), `"`), true
}

func (c *check) findInQuery(query string) (refused string) {
	if query == "" || !slices.ContainsFunc(c.v.places, func(p place) bool { return p.kind == inParam }) {
		return ""
	}
	for pair := range strings.SplitSeq(query, "&") {
		for i := range c.v.places {
			if p := &c.v.places[i]; p.kind == inParam {
				if text, has := paramOf(pair, p.name); has {
					if refused = c.add(i, "", text); refused != "" {
						return refused
					}
				}
			}
		}
		c.source++
	}
	return ""
}

// paramOf returns the value of a pair of a query, if it has the name, as applications read
// it.
func paramOf(pair, name string) (value string, has bool) {
	key, value, _ := strings.Cut(pair, "=")
	if key != name {
		if !strings.ContainsAny(key, "%+") {
			return "", false
		}
		if plain, err := url.QueryUnescape(key); err != nil || plain != name {
			return "", false
		}
	}
	plain, err := url.QueryUnescape(value)
	if err != nil {
		return value, true // no token then
	}
	return plain, true
}

// add notes a token. An empty value is none.
func (c *check) add(i int, field, text string) (refused string) {
	switch {
	case text == "":
		return ""
	case len(text) > maxToken:
		return tooLong
	case len(c.found) == maxTokens:
		return tooMany
	}
	for k := range c.found {
		// Which of several of one name an application reads, nobody knows.
		a, b := &c.v.places[c.found[k].place], &c.v.places[i]
		if a.kind == b.kind && a.name == b.name && c.found[k].source != c.source {
			return ambiguous
		}
	}
	if c.found == nil {
		c.found = make([]found, 0, 2)
	}
	c.found = append(c.found, found{place: i, text: text, field: field, source: c.source})
	return ""
}
