package routes

import (
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// hashOf hashes a request: "path [field: value]…" with the cookie and address of from.
func hashOf(t *testing.T, policies []config.HashPolicy, request string, cookies map[string]string, peer string) (uint64, []string) {
	t.Helper()
	path, rest, _ := strings.Cut(request, " ")
	q := &Target{Method: "GET", Authority: "shop.example", Path: path, Header: func(name string) (string, bool) {
		field, value, _ := strings.Cut(rest, ": ")
		return value, field == name
	}}
	r := &Route{Route: &config.Route{Action: &config.RouteAction{Hash: policies}}}
	return r.Hash(q, &Caller{Peer: peer, Cookie: func(name string) (string, bool) { v, ok := cookies[name]; return v, ok }})
}

// TestHash: requests hash alike if they are alike in what the route names, and not at all
// if they have nothing of it.
func TestHash(t *testing.T) {
	header := config.HashPolicy{Header: "x-user"}
	for name, c := range map[string]struct {
		policies []config.HashPolicy
		a, b     string
		same     bool
		none     bool // a has no hash
	}{
		"header":                   {[]config.HashPolicy{header}, "/a x-user: joe", "/b x-user: joe", true, false},
		"header, another value":    {[]config.HashPolicy{header}, "/ x-user: joe", "/ x-user: ann", false, false},
		"header, missing":          {[]config.HashPolicy{header}, "/ x-group: joe", "/", true, true},
		"authority":                {[]config.HashPolicy{{Header: "host"}}, "/a", "/b", true, false},
		"parameter":                {[]config.HashPolicy{{Query: "user"}}, "/a?user=1", "/b?x=2&user=1", true, false},
		"parameter, another value": {[]config.HashPolicy{{Query: "user"}}, "/a?user=1", "/a?user=2", false, false},
		"parameter, missing":       {[]config.HashPolicy{{Query: "user"}}, "/a?x=1", "/user=1", true, true},
		"cookie":                   {[]config.HashPolicy{{Cookie: &config.HashCookie{Name: "id"}}}, "/a", "/b", true, false},
		"cookie, missing":          {[]config.HashPolicy{{Cookie: &config.HashCookie{Name: "other"}}}, "/a", "/a", true, true},
		"address":                  {[]config.HashPolicy{{SourceIP: true}}, "/a", "/b", true, false},
		"two":                      {[]config.HashPolicy{header, {SourceIP: true}}, "/ x-user: joe", "/ x-user: ann", false, false},
		"two, the first is enough": {
			[]config.HashPolicy{{Header: "x-user", Terminal: true}, {Query: "q"}},
			"/?q=1 x-user: joe", "/?q=2 x-user: joe", true, false,
		},
		"two, the first is missing": {
			[]config.HashPolicy{{Header: "x-user", Terminal: true}, {Query: "q"}}, "/?q=1", "/?q=2", false, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			cookies := map[string]string{"id": "42"}
			a, _ := hashOf(t, c.policies, c.a, cookies, "10.0.0.1")
			b, _ := hashOf(t, c.policies, c.b, cookies, "10.0.0.1")
			if (a == b) != c.same || (a == 0) != c.none {
				t.Errorf("hashes %x and %x, want the same: %v, none: %v", a, b, c.same, c.none)
			}
		})
	}
}

// TestHashIsEnvoys: proxies of either kind agree about a value; the figure is XXH64 of it,
// as its reference implementation gives it.
func TestHashIsEnvoys(t *testing.T) {
	if got, _ := hashOf(t, []config.HashPolicy{{Header: "x-user"}}, "/ x-user: a", nil, ""); got != 0xd24ec4f1a98c6e5b {
		t.Errorf("hash %x, want d24ec4f1a98c6e5b", got)
	}
}

// TestHashCookie: a caller without the cookie is given one, with which its next request
// hashes as this one does.
func TestHashCookie(t *testing.T) {
	cookie := &config.HashCookie{
		Name: "id", Path: "/shop", Generate: true, TTL: 90 * time.Second,
		Attributes: []config.CookieAttribute{{Name: "SameSite", Value: "Lax"}, {Name: "Secure"}},
	}
	policies := []config.HashPolicy{{Cookie: cookie}}
	hash, set := hashOf(t, policies, "/", nil, "")
	if hash == 0 || len(set) != 1 || !strings.HasSuffix(set[0], "; Max-Age=90; Path=/shop; SameSite=Lax; Secure; HttpOnly") {
		t.Fatalf("hash %x, cookies %q", hash, set)
	}

	field, _, _ := strings.Cut(set[0], ";")
	value, ok := FindCookie("a=b; "+field, "id")
	next, none := hashOf(t, policies, "/", map[string]string{"id": value}, "")
	if !ok || next != hash || len(none) != 0 {
		t.Errorf("the next request has hash %x and sets %q, want %x and nothing", next, none, hash)
	}
	if other, _ := hashOf(t, policies, "/", nil, ""); other == hash {
		t.Error("two callers were given the same cookie")
	}

	session := []config.HashPolicy{{Cookie: &config.HashCookie{Name: "id", Generate: true}}}
	if _, set := hashOf(t, session, "/", nil, ""); len(set) != 1 || strings.Contains(set[0], "Max-Age") {
		t.Errorf("cookies %q, want one that ends with the browser", set)
	}
}

func TestFindCookie(t *testing.T) {
	for field, want := range map[string]string{
		"id=1":                  "1",
		"x=id=2; id=1":          "1",
		`a=b;id="1" ; c=d`:      "1",
		"id=1; id=2":            "1",
		"idx=1; id":             "",
		"":                      "",
		"id=":                   "",
		"a=1;\tid=1=2":          "1=2",
		"xid=1; ID=3; other=id": "",
	} {
		if got, _ := FindCookie(field, "id"); got != want {
			t.Errorf("%q: %q, want %q", field, got, want)
		}
	}
}
