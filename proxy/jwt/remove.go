package jwt

import (
	"slices"
	"strings"
)

// removeTokens takes those tokens out of a request that are not to be forwarded.
func (c *check) removeTokens(r *Request, out *Verdict) {
	var params, cookies []string
	for k := range c.found {
		f := &c.found[k]
		if c.forwards(f) {
			continue
		}
		switch p := &c.v.places[f.place]; p.kind {
		case inHeader:
			c.drop(f.field)
		case inParam:
			params = append(params, p.name)
		case inCookie:
			cookies = append(cookies, p.name)
		}
	}
	if len(params) > 0 {
		out.Path = withoutParams(r.Path, params)
	}
	if len(cookies) > 0 {
		c.drop("cookie")
		if kept := withoutCookies(r.Fields, cookies); kept != "" {
			out.Add = append(out.Add, Field{"cookie", kept})
		}
	}
}

// withoutParams leaves parameters out of the query of a path; what stays, stays as it is.
func withoutParams(path string, names []string) string {
	before, query, _ := strings.Cut(path, "?")
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		if !slices.ContainsFunc(names, func(name string) bool { _, has := paramOf(pair, name); return has }) {
			kept = append(kept, pair)
		}
	}
	if len(kept) == 0 {
		return before
	}
	return before + "?" + strings.Join(kept, "&")
}

// withoutCookies is the Cookie field of a request without some cookies. Several fields, as
// HTTP/2 allows (RFC 9113 section 8.2.3), become one.
func withoutCookies(fields Fields, names []string) string {
	var kept []string
	for i := 0; ; i++ {
		name, value, more := fields.Field(i)
		if !more {
			return strings.Join(kept, "; ")
		}
		if !strings.EqualFold(name, "cookie") {
			continue
		}
		for pair := range strings.SplitSeq(value, ";") {
			pair = strings.TrimSpace(pair)
			if pair != "" && !slices.ContainsFunc(names, func(name string) bool { _, has := cookieOf(pair, name); return has }) {
				kept = append(kept, pair)
			}
		}
	}
}
