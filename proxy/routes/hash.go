package routes

import (
	"math/bits"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// Caller is what of a request is hashed beside what routing looks at.
type Caller struct {
	// Peer is the caller's address.
	Peer string
	// Cookie returns a cookie of the request.
	Cookie func(name string) (string, bool)
}

// Hash returns a number that requests have in common that are to meet at one endpoint, 0
// where the route does not say which are, or the request has nothing of what it says. They
// are Envoy's own (RouteAction.HashPolicy), so that proxies of either kind agree. cookies
// are for the answer (set-cookie): by them the caller's next request is known.
func (r *Route) Hash(q *Target, from *Caller) (hash uint64, cookies []string) {
	if r.Action == nil {
		return 0, nil
	}
	for i := range r.Action.Hash {
		p := &r.Action.Hash[i]
		var text string
		var has bool
		switch {
		case p.SourceIP:
			text, has = from.Peer, true
		case p.Header != "":
			text, has = q.field(p.Header)
		case p.Query != "":
			_, query, _ := strings.Cut(q.Path, "?")
			text, has = parameter(query, p.Query)
		case p.Cookie != nil:
			if text, has = from.Cookie(p.Cookie.Name); !has && p.Cookie.Generate {
				text, has = strconv.FormatUint(rand.Uint64(), 16), true
				cookies = append(cookies, setCookie(p.Cookie, text))
			}
		}
		if has {
			hash = bits.RotateLeft64(hash, 1) ^ xxhash.Sum64String(text)
			hash = max(hash, 1) // 0 stands for none
		}
		if p.Terminal && hash != 0 {
			break
		}
	}
	return hash, cookies
}

// setCookie is the value of a set-cookie field (RFC 6265 section 4.1).
func setCookie(c *config.HashCookie, value string) string {
	var b strings.Builder
	b.WriteString(c.Name + "=" + value)
	if c.TTL > 0 {
		b.WriteString("; Max-Age=" + strconv.FormatInt(int64(c.TTL.Seconds()), 10))
	}
	if c.Path != "" {
		b.WriteString("; Path=" + c.Path)
	}
	for _, a := range c.Attributes {
		b.WriteString("; " + a.Name)
		if a.Value != "" {
			b.WriteString("=" + a.Value)
		}
	}
	b.WriteString("; HttpOnly")
	return b.String()
}

// FindCookie returns a cookie of a cookie field (RFC 6265 section 4.2.1), without the
// quotes around it.
func FindCookie(field, name string) (string, bool) {
	for field != "" {
		var one string
		one, field, _ = strings.Cut(field, ";")
		key, value, ok := strings.Cut(strings.Trim(one, " \t"), "=")
		if !ok || key != name {
			continue
		}
		if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
			value = value[1 : n-1]
		}
		return value, true
	}
	return "", false
}
