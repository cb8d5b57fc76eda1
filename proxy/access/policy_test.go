package access

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

const caller = "spiffe://cluster.local/ns/shop/sa/web"

// fields are header fields in the order in which they came.
type fields [][2]string

func (f fields) Field(i int) (name, value string, more bool) {
	if i >= len(f) {
		return "", "", false
	}
	return f[i][0], f[i][1], true
}

func exact(v string) config.StringMatch {
	return config.StringMatch{Kind: config.MatchExact, Value: v}
}

func prefix(v string) config.StringMatch {
	return config.StringMatch{Kind: config.MatchPrefix, Value: v}
}

func suffix(v string) config.StringMatch {
	return config.StringMatch{Kind: config.MatchSuffix, Value: v}
}

func pathTest(m config.StringMatch) config.AccessTest {
	return config.AccessTest{Kind: config.AccessPath, Text: m}
}

func field(name string, m config.StringMatch) config.AccessTest {
	return config.AccessTest{Kind: config.AccessHeader, Header: config.HeaderMatch{Name: name, Value: m}}
}

func present(name string) config.AccessTest {
	return config.AccessTest{Kind: config.AccessHeader, Header: config.HeaderMatch{Name: name, Present: true}}
}

func principal(m config.StringMatch) config.AccessTest {
	return config.AccessTest{Kind: config.AccessPrincipal, Text: m}
}

func not(t config.AccessTest) config.AccessTest {
	return config.AccessTest{Kind: config.AccessNot, Of: []config.AccessTest{t}}
}

func all(t ...config.AccessTest) config.AccessTest {
	return config.AccessTest{Kind: config.AccessAll, Of: t}
}

func rulesOf(deny bool, tests ...config.AccessTest) *config.AccessRules {
	r := &config.AccessRules{Deny: deny}
	for i, t := range tests {
		r.Policies = append(r.Policies, config.AccessPolicy{Name: fmt.Sprintf("p%d", i), Test: t})
	}
	return r
}

func compiled(f ...*config.AccessFilter) *Policy {
	return Compile(f, func(string) Counts { return Counts{} })
}

func deciding(deny bool, tests ...config.AccessTest) *Policy {
	return compiled(&config.AccessFilter{Rules: rulesOf(deny, tests...)})
}

var connection = Connection{
	Principal: caller, Peer: netip.MustParseAddr("10.0.0.9"), Local: netip.MustParseAddrPort("10.0.0.1:8080"), SNI: "web.shop",
}

// TestPathsThatCanBeReadInSeveralWays: what an application may take for a refused path is
// refused, and what it may take for a path that is not allowed is not allowed.
func TestPathsThatCanBeReadInSeveralWays(t *testing.T) {
	refusing := deciding(true, pathTest(exact("/admin")), pathTest(prefix("/admin/"))).For(connection)
	allowing := deciding(false, pathTest(prefix("/public/")), pathTest(suffix(".js"))).For(connection)
	for _, tt := range []struct {
		path              string
		refused, admitted bool
	}{
		{path: "/", refused: false, admitted: false},
		{path: "/admin", refused: true},
		{path: "/admin?x=/public/", refused: true},
		{path: "//admin", refused: true},
		{path: "/x//../admin/users", refused: true},
		{path: "/./admin", refused: true},
		{path: "/admin;a=b", refused: true},
		{path: "/admin;a=b/users", refused: true},
		{path: "/x/..;/admin", refused: true},
		{path: "/admin%2fusers", refused: true},
		{path: "/admin%2Fusers", refused: true},
		{path: "/admin%5cusers", refused: true},
		{path: `/admin\users`, refused: true},
		{path: "/admin%252fusers", refused: true},
		{path: "/x%2f..%2fadmin", refused: true},
		{path: "/x/%2e%2e/admin", refused: true},
		// HTTP's paths differ by case (RFC 9110 section 4.2.3).
		{path: "/Admin"},
		{path: "/public/a", admitted: true},
		{path: "/public/a%20b", admitted: true},
		{path: "/public/a%2fb", admitted: true},
		{path: "/public/..;/admin", refused: true},
		{path: "/public/..%2fadmin", refused: true},
		{path: "/public/%252e%252e/admin", refused: true},
		{path: "/public//a", admitted: true},
		{path: "/public"},
		{path: "/admin;x.js", refused: true},
		{path: "/x;y/a.js", admitted: true},
	} {
		r := Request{Method: "GET", Path: tt.path}
		if _, passed := refusing.Decide(&r); passed == tt.refused {
			t.Errorf("%s: refused %t, want %t", tt.path, !passed, tt.refused)
		}
		r = Request{Method: "GET", Path: tt.path}
		if _, passed := allowing.Decide(&r); passed != tt.admitted {
			t.Errorf("%s: admitted %t, want %t", tt.path, passed, tt.admitted)
		}
	}
}

// TestTextsThatAreAmbiguousThemselves are compared with the path as it is sent on: who
// writes an encoded slash means it.
func TestTextsThatAreAmbiguousThemselves(t *testing.T) {
	c := deciding(false, pathTest(exact("/group%2Fproject")), pathTest(prefix("/v1;a/"))).For(connection)
	for p, want := range map[string]bool{"/group%2Fproject": true, "/group/project": false, "/v1;a/x": true, "/v1/x": false} {
		if _, passed := c.Decide(&Request{Path: p}); passed != want {
			t.Errorf("%s: %t", p, passed)
		}
	}
}

// TestFieldsOfOneName: neither several fields nor another spelling of the name gets a
// caller past a rule.
func TestFieldsOfOneName(t *testing.T) {
	refusing := deciding(true, field("x-role", exact("admin"))).For(connection)
	allowing := deciding(false, field("x-role", exact("user"))).For(connection)
	unless := deciding(true, not(field("x-role", exact("user")))).For(connection)
	absent := deciding(true, not(present("x-role"))).For(connection)
	for _, tt := range []struct {
		name                              string
		fields                            fields
		refused, admitted, unless, absent bool
	}{
		{name: "none", unless: true, absent: true},
		{name: "right", fields: fields{{"X-Role", "user"}}, admitted: true},
		{name: "wrong", fields: fields{{"x-role", "admin"}}, refused: true, unless: true},
		{name: "both", fields: fields{{"x-role", "user"}, {"x-role", "admin"}}, refused: true, unless: true},
		{name: "as one list", fields: fields{{"x-role", "user,admin"}}, unless: true},
		{name: "by another spelling", fields: fields{{"X_Role", "admin"}}, refused: true, unless: true, absent: true},
		{name: "beside another spelling", fields: fields{{"x-role", "user"}, {"x_role", "admin"}}, refused: true, unless: true},
		{name: "in another spelling alone", fields: fields{{"x_role", "user"}}, unless: true, absent: true},
		{name: "not passed on", fields: fields{{"", "user"}}, unless: true, absent: true},
	} {
		for rule, c := range map[string]struct {
			caller *Caller
			passes bool
		}{
			"refusing": {refusing, !tt.refused}, "allowing": {allowing, tt.admitted},
			"unless": {unless, !tt.unless}, "absent": {absent, !tt.absent},
		} {
			if _, passed := c.caller.Decide(&Request{Fields: tt.fields}); passed != c.passes {
				t.Errorf("%s, %s: passes %t, want %t", tt.name, rule, passed, c.passes)
			}
		}
	}
}

// TestWhatTheProxySaysItself: a caller's word about its certificate counts for nothing.
func TestWhatTheProxySaysItself(t *testing.T) {
	c := deciding(false, field("x-forwarded-client-cert", suffix("URI="+caller))).For(connection)
	forged := fields{{"X-Forwarded-Client-Cert", "URI=" + caller}, {"x_forwarded_client_cert", "URI=" + caller}}
	if _, passed := c.Decide(&Request{Fields: forged}); passed {
		t.Error("a forged field lets the caller pass")
	}
	if _, passed := c.Decide(&Request{Fields: forged[:1], ClientCert: "By=x;URI=" + caller}); !passed {
		t.Error("the field as it is sent on does not count")
	}
}

// TestRemoteAddress is the last of X-Forwarded-For, as in Envoy without
// use_remote_address; where that is no address, or the hop is not to be believed, it is
// the peer's.
func TestRemoteAddress(t *testing.T) {
	near := config.AccessTest{Kind: config.AccessRemoteIP, Prefix: netip.MustParsePrefix("192.0.2.0/24")}
	c := deciding(false, near).For(connection)
	for name, tt := range map[string]struct {
		request Request
		passes  bool
	}{
		"none":             {Request{}, false},
		"last of several":  {Request{Fields: fields{{"X-Forwarded-For", "10.1.1.1, 192.0.2.7"}}}, true},
		"first of several": {Request{Fields: fields{{"x-forwarded-for", "192.0.2.7, 10.1.1.1"}}}, false},
		"no address":       {Request{Fields: fields{{"x-forwarded-for", "192.0.2.7:80"}}}, false},
		"at the edge":      {Request{Fields: fields{{"x-forwarded-for", "192.0.2.7"}}, TrustPeer: true}, false},
	} {
		if _, passed := c.Decide(&tt.request); passed != tt.passes {
			t.Errorf("%s: %t", name, passed)
		}
	}
}

// TestConnections: what the connection decides, and what is left to its requests.
func TestConnections(t *testing.T) {
	port := config.AccessTest{Kind: config.AccessLocalPort, Port: 8080}
	peer := config.AccessTest{Kind: config.AccessPeerIP, Prefix: netip.MustParsePrefix("10.0.0.0/8")}
	name := config.AccessTest{Kind: config.AccessServerName, Text: exact("web.shop")}
	local := config.AccessTest{Kind: config.AccessLocalIP, Prefix: netip.MustParsePrefix("10.0.0.1/32")}
	plaintext := connection
	plaintext.Principal = ""
	get := field(":method", exact("GET"))

	for name, tt := range map[string]struct {
		policy         *Policy
		conn           Connection
		allows, barred bool
	}{
		"nothing is asked":                  {nil, connection, true, false},
		"no rule allows":                    {deciding(false), connection, false, true},
		"no rule refuses":                   {deciding(true), connection, true, false},
		"the right identity":                {deciding(false, principal(exact(caller))), connection, true, false},
		"another identity":                  {deciding(false, principal(exact(caller+"2"))), connection, false, true},
		"no identity":                       {deciding(false, principal(config.StringMatch{Kind: config.MatchAny})), plaintext, false, true},
		"refused without an identity":       {deciding(true, not(principal(prefix("spiffe://")))), plaintext, false, true},
		"everything that can be said":       {deciding(false, all(port, peer, name, local)), connection, true, false},
		"another port":                      {deciding(false, all(port, peer)), Connection{Peer: connection.Peer, Local: netip.MustParseAddrPort("10.0.0.1:81")}, false, true},
		"an address of IPv4 within IPv6":    {deciding(false, peer), Connection{Peer: netip.MustParseAddr("::ffff:10.0.0.9")}, true, false},
		"what depends on the request":       {deciding(false, all(principal(exact(caller)), get)), connection, false, false},
		"refused depending on a request":    {deciding(true, all(principal(exact(caller)), get)), connection, true, false},
		"a dry run refuses nobody":          {compiled(&config.AccessFilter{Shadow: rulesOf(true, config.AccessTest{})}), connection, true, false},
		"both filters have to let it in":    {compiled(&config.AccessFilter{Rules: rulesOf(false, port)}, &config.AccessFilter{Rules: rulesOf(true, peer)}), connection, false, true},
		"an order that makes no difference": {compiled(&config.AccessFilter{Rules: rulesOf(true, peer)}, &config.AccessFilter{Rules: rulesOf(false, port)}), connection, false, true},
	} {
		c := tt.policy.For(tt.conn)
		if _, passed := c.Decide(nil); passed != tt.allows {
			t.Errorf("%s: Decide %t, want %t", name, passed, tt.allows)
		}
		if got := c.Allows(); got != tt.allows {
			t.Errorf("%s: Allows %t, want %t", name, got, tt.allows)
		}
		if got := c.Barred(); got != tt.barred {
			t.Errorf("%s: Barred %t, want %t", name, got, tt.barred)
		}
	}
}

// TestDetails are Envoy's.
func TestDetails(t *testing.T) {
	c := deciding(true, pathTest(exact("/a")), pathTest(exact("/b"))).For(connection)
	if got, _ := c.Decide(&Request{Path: "/b"}); got != "rbac_access_denied_matched_policy[p1]" {
		t.Error(got)
	}
	c = deciding(false, pathTest(exact("/a"))).For(connection)
	if got, _ := c.Decide(&Request{Path: "/b"}); got != "rbac_access_denied_matched_policy[none]" {
		t.Error(got)
	}
}

type counter int

func (c *counter) Inc() { *c++ }

// TestCounts: each filter that is asked counts what it says, and its dry run.
func TestCounts(t *testing.T) {
	var allowed, denied, shadowAllowed, shadowDenied counter
	p := Compile([]*config.AccessFilter{{
		Rules: rulesOf(true, pathTest(exact("/no"))), Shadow: rulesOf(true, pathTest(exact("/soon"))), ShadowPrefix: "dry_",
	}}, func(prefix string) Counts {
		if prefix != "dry_" {
			t.Errorf("prefix %q", prefix)
		}
		return Counts{&allowed, &denied, &shadowAllowed, &shadowDenied}
	})
	c := p.For(connection)
	for _, at := range []string{"/", "/no", "/soon"} {
		c.Decide(&Request{Path: at})
	}
	if allowed != 2 || denied != 1 || shadowAllowed != 2 || shadowDenied != 1 {
		t.Error(allowed, denied, shadowAllowed, shadowDenied)
	}
}

// manyRules are n rules for callers of n namespaces, of which the last is the caller's and
// names one path after another.
func manyRules(n int) *config.AccessFilter {
	r := &config.AccessRules{}
	for i := range n {
		r.Policies = append(r.Policies, config.AccessPolicy{Name: fmt.Sprint(i), Test: all(
			all(field(":method", exact("GET")), pathTest(prefix(fmt.Sprintf("/api/v%d/", i)))), principal(prefix("spiffe://cluster.local/ns/shop/")),
		)})
	}
	return &config.AccessFilter{Rules: r}
}

func TestRequestsAllocateNothing(t *testing.T) {
	c := compiled(manyRules(100)).For(connection)
	f := Fields(fields{{"accept", "*/*"}, {"user-agent", "curl"}})
	if n := testing.AllocsPerRun(100, func() {
		r := Request{Method: "GET", Path: "/api/v99/x?y=z", Fields: f}
		if _, passed := c.Decide(&r); !passed {
			t.Fatal("refused")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDecide100Rules(b *testing.B) {
	c := compiled(manyRules(100)).For(connection)
	b.ReportAllocs()
	for b.Loop() {
		r := Request{Method: "GET", Path: "/api/v99/x?y=z"}
		c.Decide(&r)
	}
}

func BenchmarkConnection100Rules(b *testing.B) {
	p := compiled(manyRules(100))
	b.ReportAllocs()
	for b.Loop() {
		p.For(connection)
	}
}
