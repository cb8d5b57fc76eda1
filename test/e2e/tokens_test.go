//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/isthmus-mesh/isthmus/proxy/jwt/jwttest"
)

// verifyTokens: the task of Istio's documentation: a bad token is refused, none is not,
// until a policy asks for one; then the issuer's is let in, and by its claims.
func verifyTokens(t *testing.T, m *mesh) {
	const (
		apply  = "kubectl --context cluster-2 apply -n bar -f - <<'EOF'\n"
		call   = fromOne + "curl -sS -m 10 -o /dev/null -w '%{http_code}' http://httpbin.bar.global:8000/headers"
		issuer = "testing@secure.example"
	)
	object := func(kind, name, spec string) string {
		return "apiVersion: security.istio.io/v1\nkind: " + kind + "\nmetadata: {name: " + name + "}\nspec: " + spec + "\nEOF"
	}
	answers := func(token, status string) {
		t.Helper()
		command := call
		if token != "" {
			command += " -H 'Authorization: Bearer " + token + "'"
		}
		m.lab.eventually(t, 30*time.Second, command+" | grep -q "+status)
	}

	out := m.lab.refused(t, apply+object("RequestAuthentication", "tokens", "{jwtRules: [{issuer: a, jwksUri: 'https://a.example'}]}"))
	if !strings.Contains(out, "spec.jwtRules[0].jwksUri") {
		t.Errorf("refused without the field: %s", out)
	}

	key, stranger := jwttest.NewIssuer(t, jose.RS256, "a"), jwttest.NewIssuer(t, jose.RS256, "a")
	claims := map[string]any{"iss": issuer, "sub": issuer, "groups": []string{"group1"}, "exp": time.Now().Add(time.Hour).Unix()}
	good, forged := key.Token(claims), stranger.Token(claims)
	delete(claims, "groups")
	other := key.Token(claims)

	m.lab.must(t, apply+object("RequestAuthentication", "tokens",
		"{selector: {matchLabels: {app: httpbin}}, jwtRules: [{issuer: "+issuer+", jwks: '"+jwttest.JWKS(t, key)+"'}]}"))
	answers(forged, "401")
	answers(good, "200")
	answers("", "200")

	m.lab.must(t, apply+object("AuthorizationPolicy", "tokens",
		"{selector: {matchLabels: {app: httpbin}}, rules: [{from: [{source: {requestPrincipals: ['"+issuer+"/"+issuer+"']}}], when: [{key: 'request.auth.claims[groups]', values: [group1]}]}]}"))
	answers("", "403")
	answers(other, "403")
	answers(good, "200")
	answers(forged, "401")

	m.lab.must(t, "kubectl --context cluster-2 delete -n bar authorizationpolicy/tokens requestauthentication/tokens")
	answers("", "200")
	m.lab.must(t, callHTTPBin)
}
