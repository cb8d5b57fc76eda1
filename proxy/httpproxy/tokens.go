package httpproxy

import (
	"strings"

	"github.com/isthmus-mesh/isthmus/proxy/exchange"
	"github.com/isthmus-mesh/isthmus/proxy/jwt"
	"github.com/isthmus-mesh/isthmus/proxy/routes"
)

// authenticate verifies the tokens of a request, before anybody asks who may send it and
// where it goes: what both are told of its fields and its path is what is left of them. It
// is false for a request that is refused, with the answer.
func (c *call) authenticate(from *asking, q *routes.Target) (exchange.Verdict, bool) {
	if from.tokens == nil {
		return exchange.Verdict{}, true
	}
	v := from.tokens.Check(&jwt.Request{Fields: from.fields, Path: q.Path}, c.start)
	if v.Refused != "" {
		path, _, _ := strings.Cut(q.Path, "?") // the query may hold a token
		return c.Unauthenticated(v.Refused, v.Missing, schemeOf(from.info)+"://"+q.Authority+path), false
	}

	from.claims, q.Path = v.Claims, v.Path
	for _, name := range v.Drop {
		from.edit.Drop(name)
	}
	for _, f := range v.Add {
		from.edit.Add(f.Name, f.Value)
	}
	return exchange.Verdict{}, true
}
