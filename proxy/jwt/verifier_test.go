package jwt

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/go-jose/go-jose/v4"

	"github.com/isthmus-mesh/isthmus/internal/jwks"
	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/jwt/jwttest"
)

// fields are header fields in the order in which they came.
type fields [][2]string

func (f fields) Field(i int) (name, value string, more bool) {
	if i >= len(f) {
		return "", "", false
	}
	return f[i][0], f[i][1], true
}

// requiring is the filter that discovery makes of providers: one of them verifies a token,
// or all tokens that are there are verified.
func requiring(providers ...config.TokenProvider) *Verifier {
	q := config.TokenRequirement{Kind: config.RequireAny}
	for i := range providers {
		q.Of = append(q.Of, config.TokenRequirement{Kind: config.RequireProvider, Provider: i})
	}
	q.Of = append(q.Of, config.TokenRequirement{Kind: config.RequireMissing})
	return New(&config.TokenFilter{Providers: providers, Require: q})
}

// TestPlaces: where tokens are looked for, and what is left of the request.
func TestPlaces(t *testing.T) {
	i := jwttest.NewIssuer(t, jose.ES256, "")
	good, bad := i.Token(claimsOf(nil)), i.Token(claimsOf(object{"exp": 1}))
	p := providerOf(keysOf(t, i))
	elsewhere := p
	elsewhere.Headers, elsewhere.Params, elsewhere.Cookies =
		[]config.TokenHeader{{Name: "x-jwt"}, {Name: "x-auth", Prefix: "Token "}}, []string{"t"}, []string{"session"}
	for name, tt := range map[string]struct {
		provider config.TokenProvider
		fields   fields
		path     string
		refused  string
		drop     string
		add      string
		left     string // the path, where it differs
	}{
		"nowhere":                  {provider: p},
		"a password":               {provider: p, fields: fields{{"authorization", "Basic eDp5"}}},
		"authorization":            {provider: p, fields: fields{{"Authorization", "Bearer " + good}}, drop: "[authorization]"},
		"its scheme in lower case": {provider: p, fields: fields{{"authorization", "bearer " + good}}, drop: "[authorization]"},
		"more spaces":              {provider: p, fields: fields{{"authorization", "Bearer   " + good}}, drop: "[authorization]"},
		"bad":                      {provider: p, fields: fields{{"authorization", "Bearer " + bad}}, refused: expired},
		"bad, in lower case":       {provider: p, fields: fields{{"authorization", "bEARER " + bad}}, refused: expired},
		"no token at all":          {provider: p, fields: fields{{"authorization", "Bearer x"}}, refused: malformed},
		"nothing":                  {provider: p, fields: fields{{"authorization", "Bearer"}}},
		"a query":                  {provider: p, path: "/x?a=b&access_token=" + good + "&c", left: "/x?a=b&c"},
		"a query alone":            {provider: p, path: "/x?access_token=" + good, left: "/x"},
		"a query, encoded":         {provider: p, path: "/x?access%5Ftoken=" + good, left: "/x"},
		"a bad query":              {provider: p, path: "/x?access_token=" + bad, refused: expired},
		"a bad query, encoded":     {provider: p, path: "/x?access%5ftoken=" + bad, refused: expired},
		"another's place":          {provider: elsewhere, fields: fields{{"authorization", "Bearer " + bad}}},
		"a field without a prefix": {provider: elsewhere, fields: fields{{"X-Jwt", good}}, drop: "[x-jwt]"},
		"a field, misspelt":        {provider: elsewhere, fields: fields{{"X_Jwt", bad}}, refused: expired},
		"a prefix":                 {provider: elsewhere, fields: fields{{"x-auth", "Token " + good}}, drop: "[x-auth]"},
		"another prefix":           {provider: elsewhere, fields: fields{{"x-auth", "Bearer " + bad}}},
		"a parameter":              {provider: elsewhere, path: "/?t=" + good, left: "/"},
		"a cookie":                 {provider: elsewhere, fields: fields{{"cookie", "a=b; session=" + good + "; c=d"}, {"cookie", "e=f"}}, drop: "[cookie]", add: "[{cookie a=b; c=d; e=f}]"},
		"a cookie alone":           {provider: elsewhere, fields: fields{{"Cookie", `session="` + good + `"`}}, drop: "[cookie]"},
		"a bad cookie":             {provider: elsewhere, fields: fields{{"cookie", "a=b;session=" + bad}}, refused: expired},
		"two of one field":         {provider: p, fields: fields{{"authorization", "Bearer " + good}, {"authorization", "Bearer " + good}}, refused: ambiguous},
		"two, one misspelt":        {provider: elsewhere, fields: fields{{"x-jwt", good}, {"x_jwt", good}}, refused: ambiguous},
		"two of one parameter":     {provider: p, path: "/?access_token=" + good + "&access%5Ftoken=" + good, refused: ambiguous},
		"two of one cookie":        {provider: elsewhere, fields: fields{{"cookie", "session=" + good + "; session=" + good}}, refused: ambiguous},
		"two in one field":         {provider: p, fields: fields{{"authorization", "Bearer " + good + ", Bearer " + good}}, refused: malformed},
		"in two places":            {provider: p, fields: fields{{"authorization", "Bearer " + good}}, path: "/?access_token=" + good, drop: "[authorization]", left: "/"},
		"long":                     {provider: p, fields: fields{{"authorization", "Bearer " + strings.Repeat("a", maxToken+1)}}, refused: tooLong},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.path == "" {
				tt.path = "/x"
			}
			if tt.left == "" {
				tt.left = tt.path
			}
			got := requiring(tt.provider).Check(&Request{Fields: tt.fields, Path: tt.path}, now)
			if got.Refused != tt.refused {
				t.Fatalf("refused for %q, want %q", got.Refused, tt.refused)
			}
			if tt.refused != "" {
				return
			}
			list := func(v any, n int) string {
				if n == 0 {
					return ""
				}
				return fmt.Sprint(v)
			}
			if list(got.Drop, len(got.Drop)) != tt.drop || list(got.Add, len(got.Add)) != tt.add || got.Path != tt.left {
				t.Errorf("drops %v, adds %v, leaves %q; want %s, %s, %q", got.Drop, got.Add, got.Path, tt.drop, tt.add, tt.left)
			}
			if tokens := tt.drop != "" || tt.left != tt.path; tokens != (got.Claims["sub"] == "me") {
				t.Errorf("the claims are %v", got.Claims)
			}

			tt.provider.Forward = true
			got = requiring(tt.provider).Check(&Request{Fields: tt.fields, Path: tt.path}, now)
			if got.Refused != "" || len(got.Drop)+len(got.Add) > 0 || got.Path != tt.path {
				t.Errorf("forwarding: %+v", got)
			}
		})
	}
}

// TestSeveralIssuers: a request is let pass for one token that the provider of its issuer
// verifies; else each that is there has to be good. The claims are those of the first
// provider that is satisfied.
func TestSeveralIssuers(t *testing.T) {
	a, b := jwttest.NewIssuer(t, jose.ES256, ""), jwttest.NewIssuer(t, jose.ES256, "")
	pa, pb := providerOf(keysOf(t, a)), providerOf(keysOf(t, b))
	pa.Issuer, pb.Issuer, pb.Headers = "a", "b", []config.TokenHeader{{Name: "x-jwt"}}
	both := pb
	both.Headers = pa.Headers
	token := func(i *jwttest.Issuer, iss string) string { return i.Token(object{"iss": iss, "sub": "of " + iss}) }

	for name, tt := range map[string]struct {
		providers []config.TokenProvider
		fields    fields
		refused   string
		subject   any
		drop      string
	}{
		"one place, the first":       {[]config.TokenProvider{pa, both}, fields{{"authorization", "Bearer " + token(a, "a")}}, "", "of a", "[authorization]"},
		"one place, the second":      {[]config.TokenProvider{pa, both}, fields{{"authorization", "Bearer " + token(b, "b")}}, "", "of b", "[authorization]"},
		"one place, an unknown one":  {[]config.TokenProvider{pa, both}, fields{{"authorization", "Bearer " + token(a, "c")}}, unknownIssuer, nil, ""},
		"by the key of another":      {[]config.TokenProvider{pa, both}, fields{{"authorization", "Bearer " + token(b, "a")}}, forged, nil, ""},
		"two places":                 {[]config.TokenProvider{pa, pb}, fields{{"x-jwt", token(b, "b")}, {"authorization", "Bearer " + token(a, "a")}}, "", "of a", "[authorization x-jwt]"},
		"the second alone":           {[]config.TokenProvider{pa, pb}, fields{{"x-jwt", token(b, "b")}}, "", "of b", "[x-jwt]"},
		"each in the other's place":  {[]config.TokenProvider{pa, pb}, fields{{"x-jwt", token(a, "a")}}, unknownIssuer, nil, ""},
		"a forged one beside a good": {[]config.TokenProvider{pa, pb}, fields{{"authorization", "Bearer " + token(a, "a")}, {"x-jwt", token(a, "b")}}, "", "of a", "[authorization x-jwt]"},
		"two forged ones":            {[]config.TokenProvider{pa, pb}, fields{{"authorization", "Bearer " + token(b, "a")}, {"x-jwt", token(a, "b")}}, forged, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := requiring(tt.providers...).Check(&Request{Fields: tt.fields, Path: "/"}, now)
			slices.Sort(got.Drop)
			if got.Refused != tt.refused || got.Claims["sub"] != tt.subject || tt.drop != "" && fmt.Sprint(got.Drop) != tt.drop {
				t.Errorf("refused for %q, subject %v, drops %v", got.Refused, got.Claims["sub"], got.Drop)
			}
		})
	}

	// What nobody verified is not passed on, whatever its provider says.
	pa.Forward, pb.Forward = true, true
	got := requiring(pa, pb).Check(&Request{Path: "/", Fields: fields{{"authorization", "Bearer " + token(a, "a")}, {"x-jwt", token(a, "b")}}}, now)
	if fmt.Sprint(got.Drop) != "[x-jwt]" {
		t.Errorf("with a good token that is forwarded, and a forged one: drops %v", got.Drop)
	}
	got = requiring(pa, pb).Check(&Request{Path: "/", Fields: fields{{"authorization", "Bearer " + token(a, "a")}, {"x-jwt", token(b, "b")}}}, now)
	if len(got.Drop) > 0 {
		t.Errorf("with two good ones that are forwarded: drops %v", got.Drop)
	}
}

// TestRequirements: a token that must be there, and several.
func TestRequirements(t *testing.T) {
	i := jwttest.NewIssuer(t, jose.ES256, "")
	p := providerOf(keysOf(t, i))
	with := &Request{Path: "/", Fields: fields{{"authorization", "Bearer " + i.Token(claimsOf(nil))}}}
	without := &Request{Path: "/", Fields: fields{}}
	need := config.TokenRequirement{Kind: config.RequireProvider}
	maybe := config.TokenRequirement{Kind: config.RequireMissing}
	for name, tt := range map[string]struct {
		require       config.TokenRequirement
		with, without string
	}{
		"needed":        {need, "", missing},
		"all":           {config.TokenRequirement{Kind: config.RequireAll, Of: []config.TokenRequirement{maybe, need}}, "", missing},
		"any":           {config.TokenRequirement{Kind: config.RequireAny, Of: []config.TokenRequirement{need, maybe}}, "", ""},
		"may be absent": {maybe, "", ""},
	} {
		v := New(&config.TokenFilter{Providers: []config.TokenProvider{p}, Require: tt.require})
		a, b := v.Check(with, now), v.Check(without, now)
		if a.Refused != tt.with || b.Refused != tt.without || b.Missing != (tt.without == missing) {
			t.Errorf("%s: with a token %q, without %q (missing %t)", name, a.Refused, b.Refused, b.Missing)
		}
	}
}

// TestOutputs: what tokens say reaches the application in fields that nobody else can write.
func TestOutputs(t *testing.T) {
	i := jwttest.NewIssuer(t, jose.ES256, "")
	p := providerOf(keysOf(t, i))
	p.PayloadHeader = "x-payload"
	p.Lists = []string{"scope", "a.roles"}
	for header, claim := range map[string]string{
		"x-text": "text", "x-int": "int", "x-bool": "bool", "x-list": "list", "x-deep": "a.b", "x-dots": "https://a.b/c", "x-line": "line",
		"x-absent": "absent", "x-scope": "scope",
	} {
		p.ClaimHeaders = append(p.ClaimHeaders, config.ClaimHeader{Header: header, Claim: claim})
	}
	claims := claimsOf(object{
		"text": "t", "int": 9007199254740993, "bool": true, "list": []string{"x"}, "a": object{"b": "deep", "roles": "r s"},
		"https://a.b/c": "dots", "line": "a\r\nx-admin: yes", "scope": "read write",
	})
	token := i.Token(claims)
	sent := fields{
		{"X-Payload", "forged"}, {"x_payload", "forged"}, {"x-text", "forged"}, {"x-absent", "forged"}, {"x-other", "kept"},
	}
	v := requiring(p)
	got := v.Check(&Request{Path: "/", Fields: append(sent, [2]string{"authorization", "Bearer " + token})}, now)

	added := map[string]string{}
	for _, f := range got.Add {
		added[f.Name] = f.Value
	}
	want := map[string]string{
		"x-payload": strings.Split(token, ".")[1], "x-text": "t", "x-int": "9007199254740993", "x-bool": "true", "x-deep": "deep", "x-dots": "dots",
		"x-scope": "read write",
	}
	if !maps.Equal(added, want) {
		t.Errorf("added %v, want %v", added, want)
	}
	const drop = "[x-payload x_payload x-text x-absent authorization]"
	if fmt.Sprint(got.Drop) != drop {
		t.Errorf("drops %v, want %s", got.Drop, drop)
	}
	if raw, err := base64.RawURLEncoding.DecodeString(added["x-payload"]); err != nil || !strings.Contains(string(raw), `"text":"t"`) {
		t.Errorf("the payload is %s (%v)", raw, err)
	}
	deep, _ := got.Claims["a"].(map[string]any)
	if fmt.Sprint(got.Claims["scope"], deep["roles"]) != "[read write] [r s]" {
		t.Errorf("lists are %v", got.Claims)
	}

	// Without a token the fields are taken away all the same.
	if got = v.Check(&Request{Path: "/", Fields: sent}, now); len(got.Drop) != 4 || len(got.Add) != 0 || got.Claims != nil {
		t.Errorf("without a token: %+v", got)
	}
}

// TestRememberedTokens: a token is verified once, and refused once its time is over; those
// that are remembered have a bound.
func TestRememberedTokens(t *testing.T) {
	i := jwttest.NewIssuer(t, jose.ES256, "")
	v := requiring(providerOf(keysOf(t, i)))
	v.cache = newCache(4)
	ask := func(token string, at time.Time) string {
		return v.Check(&Request{Path: "/", Fields: fields{{"authorization", "Bearer " + token}}}, at).Refused
	}
	token := i.Token(claimsOf(nil))
	if refused := ask(token, now); refused != "" {
		t.Fatal(refused)
	}
	v.filter.Providers[0].Keys = &jwks.Set{} // would refuse a token that is verified again
	if refused := ask(token, now.Add(time.Hour)); refused != "" {
		t.Errorf("a token that is known: %q", refused)
	}
	if refused := ask(token, now.Add(time.Hour+2*time.Minute)); refused != expired {
		t.Errorf("a known token whose time is over: %q", refused)
	}
	if refused := ask(i.Token(claimsOf(object{"sub": "other"})), now); refused != noKeys {
		t.Errorf("an unknown one: %q", refused)
	}

	v.filter.Providers[0].Keys = keysOf(t, i)
	for n := range 10 {
		ask(i.Token(claimsOf(object{"n": n})), now)
	}
	if known := len(v.cache.young) + len(v.cache.old); known > 4 {
		t.Errorf("%d tokens are known, want 4 at most", known)
	}
}

// TestRememberedTokensOutlastTheRequest: nothing of a token that is remembered lies in the
// buffer of the connection on which it came, which the next request overwrites.
func TestRememberedTokensOutlastTheRequest(t *testing.T) {
	i := jwttest.NewIssuer(t, jose.ES256, "")
	p := providerOf(keysOf(t, i))
	p.PayloadHeader = "x-payload"
	p.ClaimHeaders = []config.ClaimHeader{{Header: "x-sub", Claim: "sub"}}
	v := requiring(p)
	token := i.Token(claimsOf(nil))
	buffer := []byte("Bearer " + token)
	first := v.Check(&Request{Path: "/", Fields: fields{{"authorization", unsafe.String(&buffer[0], len(buffer))}}}, now)
	before := fmt.Sprint(first.Add)
	clear(buffer)

	again := v.Check(&Request{Path: "/", Fields: fields{{"authorization", "Bearer " + token}}}, now)
	if got := fmt.Sprint(again.Add); got != before || again.Claims["sub"] != "me" {
		t.Errorf("then it adds %q, and before %q", got, before)
	}
}

// BenchmarkCheck: what a request costs with a token that is known, with a new one, and
// without.
func BenchmarkCheck(b *testing.B) {
	i := jwttest.NewIssuer(b, jose.RS256, "k")
	v := requiring(providerOf(keysOf(b, i)))
	common := fields{{"accept", "*/*"}, {"user-agent", "bench"}, {"x-request-id", "0123456789"}, {"accept-encoding", "gzip"}}
	with := &Request{Path: "/a/b?c=d", Fields: append(common, [2]string{"authorization", "Bearer " + i.Token(claimsOf(object{"groups": []string{"a", "b"}}))})}
	for name, r := range map[string]*Request{"without": {Path: "/a/b?c=d", Fields: common}, "known": with} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if got := v.Check(r, now); got.Refused != "" {
					b.Fatal(got.Refused)
				}
			}
		})
	}
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			clear(v.cache.young)
			if got := v.Check(with, now); got.Refused != "" {
				b.Fatal(got.Refused)
			}
		}
	})
}
