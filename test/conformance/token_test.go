package conformance

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/compile"
	"github.com/isthmus-mesh/isthmus/proxy/jwt/jwttest"
)

// tokens puts RequestAuthentications of the server's namespace in force, each given by its
// spec in YAML, and takes away those before.
func (p *pair) tokens(specs ...string) {
	p.t.Helper()
	txn := p.store.Write()
	for row := range p.store.Authentications.All(txn) {
		p.store.Authentications.Remove(txn, row.Key())
	}
	txn.Commit()

	for i, spec := range specs {
		doc := fmt.Sprintf("apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: t%d, namespace: shop}\nspec: %s", i, spec)
		raw, err := yaml.YAMLToJSON([]byte(doc))
		if err != nil {
			p.t.Fatal(err)
		}
		obj, err := api.Decode(raw)
		if err != nil {
			p.t.Fatalf("%s: %v", spec, err)
		}
		put(p, p.store.Authentications, compile.RequestAuthentication(cluster, obj))
	}
	p.configure()
}

// TestRequestAuthenticationDecides: from the object to the answer, in both HTTP versions,
// with a token, with a bad one and without: 401, 403, or what the application says.
func TestRequestAuthenticationDecides(t *testing.T) {
	p := newPair(t)
	issuer, other := jwttest.NewIssuer(t, jose.RS256, "a"), jwttest.NewIssuer(t, jose.RS256, "a")
	rule := func(more string) string {
		return "{jwtRules: [{issuer: 'https://issuer.example/x', jwks: '" + jwttest.JWKS(t, issuer) + "'" + more + "}]}"
	}
	claims := func(more map[string]any) map[string]any {
		out := map[string]any{
			"iss": "https://issuer.example/x", "sub": "spiffe://me", "exp": time.Now().Add(time.Hour).Unix(), "aud": []string{"web", "app"},
			"azp": "cli", "groups": []string{"dev", "ops"}, "scope": "read write", "org": map[string]any{"team": "a", "roles": []string{"x"}}, "level": 3,
		}
		for name, value := range more {
			out[name] = value
		}
		return out
	}
	good, bad := issuer.Token(claims(nil)), other.Token(claims(nil))
	from := func(principals string) string {
		return "{rules: [{from: [{source: {requestPrincipals: [" + principals + "]}}]}]}"
	}
	when := func(s string) string { return "{rules: [{when: [{" + s + "}]}]}" }

	for name, tt := range map[string]struct {
		token, policy      string
		good, bad, without int
	}{
		"a token may be absent":            {"", "", 200, 401, 200},
		"policies decide without":          {"", "{}", 403, 401, 403},
		"one is needed":                    {"", from(`"*"`), 200, 401, 403},
		"one is needed, DENY":              {"", `{action: DENY, rules: [{from: [{source: {notRequestPrincipals: ["*"]}}]}]}`, 200, 401, 403},
		"of the issuer and subject":        {"", from("https://issuer.example/x/spiffe://me"), 200, 401, 403},
		"of the issuer":                    {"", from(`"https://issuer.example/x/*"`), 200, 401, 403},
		"of issuers":                       {"", from(`"https://issuer.*"`), 200, 401, 403},
		"of the subject":                   {"", from(`"*/spiffe://me"`), 200, 401, 403},
		"of subjects":                      {"", from(`"*me"`), 200, 401, 403},
		"of another subject":               {"", from("https://issuer.example/x/you"), 403, 401, 403},
		"of another issuer":                {"", from(`"https://issuer.example/*", "https://other.example/*"`), 200, 401, 403},
		"of another issuer alone":          {"", from(`"https://other.example/*"`), 403, 401, 403},
		"not of the issuer":                {"", `{action: DENY, rules: [{from: [{source: {requestPrincipals: ["https://issuer.example/x/*"]}}]}]}`, 403, 401, 200},
		"principal":                        {"", when("key: request.auth.principal, values: ['https://issuer.example/x/spiffe://me']"), 200, 401, 403},
		"an audience":                      {"", when("key: request.auth.audiences, values: [app]"), 200, 401, 403},
		"another audience":                 {"", when("key: request.auth.audiences, values: [a, we]"), 403, 401, 403},
		"a presenter":                      {"", when("key: request.auth.presenter, values: [cli]"), 200, 401, 403},
		"a claim, a list":                  {"", when("key: 'request.auth.claims[groups]', values: [ops]"), 200, 401, 403},
		"a claim, a list, another":         {"", when("key: 'request.auth.claims[groups]', values: [op, dev-]"), 403, 401, 403},
		"a claim, a prefix":                {"", when("key: 'request.auth.claims[groups]', values: ['o*']"), 200, 401, 403},
		"a claim, refused":                 {"", `{action: DENY, rules: [{when: [{key: "request.auth.claims[groups]", values: [ops]}]}]}`, 403, 401, 200},
		"a claim that must not be, DENY":   {"", `{action: DENY, rules: [{when: [{key: "request.auth.claims[groups]", notValues: [ops]}]}]}`, 200, 401, 403},
		"a claim in another":               {"", when("key: 'request.auth.claims[org][team]', values: [a]"), 200, 401, 403},
		"a list in another":                {"", when("key: 'request.auth.claims[org][roles]', values: [x]"), 200, 401, 403},
		"a claim in what is none":          {"", when("key: 'request.auth.claims[groups][team]', values: ['*']"), 403, 401, 403},
		"a scope":                          {"", when("key: 'request.auth.claims[scope]', values: [write]"), 200, 401, 403},
		"a number is no text":              {"", when("key: 'request.auth.claims[level]', values: ['*']"), 403, 401, 403},
		"elsewhere":                        {", fromHeaders: [{name: x-jwt}]", from(`"*"`), 403, 403, 403},
		"of the audience":                  {", audiences: [web]", from(`"*"`), 200, 401, 403},
		"of another audience":              {", audiences: [api]", "", 401, 401, 200},
		"by a path of a policy":            {"", "{rules: [{to: [{operation: {paths: [/a/b]}}], from: [{source: {requestPrincipals: ['*']}}]}]}", 200, 401, 403},
		"by another path of a policy":      {"", "{rules: [{to: [{operation: {paths: [/c]}}], from: [{source: {requestPrincipals: ['*']}}]}]}", 403, 401, 403},
		"a field that a claim fills":       {", outputClaimToHeaders: [{header: x-team, claim: org.team}]", when("key: 'request.headers[x-team]', values: [a]"), 200, 401, 403},
		"a field that a caller may not":    {", outputClaimToHeaders: [{header: x-team, claim: absent}]", when("key: 'request.headers[x-team]', values: ['*']"), 403, 401, 403},
		"a field that holds the claims":    {", outputPayloadToHeader: x-claims", when("key: 'request.headers[x-claims]', values: ['*']"), 200, 401, 403},
		"authorization is taken away":      {"", when("key: 'request.headers[authorization]', values: ['*']"), 403, 401, 403},
		"authorization is kept if desired": {", forwardOriginalToken: true", when("key: 'request.headers[authorization]', values: ['*']"), 200, 401, 403},
	} {
		t.Run(name, func(t *testing.T) {
			p.t = t
			p.tokens(rule(tt.token))
			if tt.policy == "" {
				p.policies()
			} else {
				p.policies(tt.policy)
			}
			for what, one := range map[string]struct {
				token string
				want  int
			}{"a token": {good, tt.good}, "a bad token": {bad, tt.bad}, "no token": {"", tt.without}} {
				// What a caller says in a field that claims fill counts for nothing.
				r := request{method: "GET", path: "/a/b", host: "web.shop", fields: [][2]string{{"X-Team", "a"}}}
				if one.token != "" {
					r.fields = append(r.fields, [2]string{"authorization", "Bearer " + one.token})
				}
				status, body := p.http1(&r)
				if status != one.want {
					t.Errorf("with %s: %d, want %d: %s", what, status, one.want, body)
				}
				if status == http.StatusUnauthorized && !strings.HasPrefix(body, "Jwt verification fails") && !strings.HasPrefix(body, "Audiences in Jwt") {
					t.Errorf("with %s the body is %q", what, body)
				}
				if status := p.http2(&r); status != one.want {
					t.Errorf("with %s, in HTTP/2: %d, want %d", what, status, one.want)
				}
			}
		})
	}
}
