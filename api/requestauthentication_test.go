package api

import (
	"strings"
	"testing"
)

// testKeys is a key set with an Ed25519 key (RFC 8037 appendix A.2).
const testKeys = `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`

// tokenRuleDoc is a document with one rule of issuer iss and the keys, and more.
func tokenRuleDoc(more string) string {
	return document("RequestAuthentication", `{jwtRules: [{issuer: iss, jwks: '`+testKeys+`'`+more+`}]}`)
}

// TestTakesRequestAuthentications: one document for each field that is honoured.
func TestTakesRequestAuthentications(t *testing.T) {
	for name, more := range map[string]string{
		"keys":          ``,
		"audiences":     `, audiences: [a, "https://b.example"]`,
		"header fields": `, fromHeaders: [{name: X-Jwt}, {name: Authorization, prefix: "Token "}]`,
		"parameters":    `, fromParams: [token]`,
		"cookies":       `, fromCookies: [session]`,
		"forwarding":    `, forwardOriginalToken: true`,
		"payload":       `, outputPayloadToHeader: x-payload`,
		"claims":        `, outputClaimToHeaders: [{header: x-group, claim: group}, {header: X_Deep, claim: a.b}]`,
		"lists":         `, spaceDelimitedClaims: [roles, a.b]`,
	} {
		t.Run(name, func(t *testing.T) {
			obj, err := decodeYAML(t, tokenRuleDoc(more))
			if err != nil {
				t.Fatal(err)
			}
			if notes := Warnings(obj); len(notes) > 0 {
				t.Errorf("warns of %q", notes)
			}
		})
	}
	for name, spec := range map[string]string{"nothing": `{}`, "selector": `{selector: {matchLabels: {app: web}}}`} {
		if _, err := decodeYAML(t, document("RequestAuthentication", spec)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRefusesRequestAuthentications: what is wrong or not honoured, with the path of the
// field.
func TestRefusesRequestAuthentications(t *testing.T) {
	spec := func(s string) string { return document("RequestAuthentication", s) }
	for name, tt := range map[string]struct{ doc, want string }{
		"target":              {spec(`{targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: g}]}`), "spec.targetRefs: is not honoured yet; remove it"},
		"one target":          {spec(`{targetRef: {kind: Service, name: s}}`), "spec.targetRef: is not honoured yet; remove it"},
		"labels":              {spec(`{selector: {matchLabels: {"a b": c}}}`), "spec.selector.matchLabels"},
		"no issuer":           {spec(`{jwtRules: [{jwks: '` + testKeys + `'}]}`), "spec.jwtRules[0].issuer: is empty"},
		"no keys":             {spec(`{jwtRules: [{issuer: iss}]}`), "spec.jwtRules[0].jwks: is empty; give the issuer's keys"},
		"keys, no JSON":       {spec(`{jwtRules: [{issuer: iss, jwks: "x"}]}`), "spec.jwtRules[0].jwks: is no JSON Web Key Set"},
		"keys, a secret":      {spec(`{jwtRules: [{issuer: iss, jwks: '{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}'}]}`), "keys[0] is a secret (HMAC)"},
		"an address":          {spec(`{jwtRules: [{issuer: iss, jwksUri: "https://a.example"}]}`), "spec.jwtRules[0].jwksUri: is not honoured yet; remove it"},
		"time":                {tokenRuleDoc(`, timeout: 5s`), "spec.jwtRules[0].timeout: is not honoured yet; remove it"},
		"empty audience":      {tokenRuleDoc(`, audiences: [""]`), "spec.jwtRules[0].audiences[0]: is empty"},
		"field, no name":      {tokenRuleDoc(`, fromHeaders: [{prefix: x}]`), `spec.jwtRules[0].fromHeaders[0].name: "" is no name of a header field`},
		"pseudo field":        {tokenRuleDoc(`, fromHeaders: [{name: ":path"}]`), `spec.jwtRules[0].fromHeaders[0].name: ":path" is no name`},
		"prefix":              {tokenRuleDoc(`, fromHeaders: [{name: a, prefix: "x\n"}]`), "spec.jwtRules[0].fromHeaders[0].prefix"},
		"parameter":           {tokenRuleDoc(`, fromParams: [""]`), "spec.jwtRules[0].fromParams[0]: is empty"},
		"cookie":              {tokenRuleDoc(`, fromCookies: ["a;b"]`), `spec.jwtRules[0].fromCookies[0]: "a;b" is no name of a cookie`},
		"payload to host":     {tokenRuleDoc(`, outputPayloadToHeader: Host`), `spec.jwtRules[0].outputPayloadToHeader: "Host" is set by the proxy`},
		"payload to framing":  {tokenRuleDoc(`, outputPayloadToHeader: content-length`), "is set by the proxy, or frames the request"},
		"claim to identity":   {tokenRuleDoc(`, outputClaimToHeaders: [{header: X-Forwarded-Client-Cert, claim: a}]`), `outputClaimToHeaders[0].header: "X-Forwarded-Client-Cert" is set by the proxy`},
		"claims to one field": {tokenRuleDoc(`, outputClaimToHeaders: [{header: x-a, claim: a}, {header: X-A, claim: b}]`), `outputClaimToHeaders[1].header: "X-A" gets something already`},
		"no claim":            {tokenRuleDoc(`, outputClaimToHeaders: [{header: x-a}]`), "outputClaimToHeaders[0].claim: is empty"},
		"list":                {tokenRuleDoc(`, spaceDelimitedClaims: [""]`), "spec.jwtRules[0].spaceDelimitedClaims[0]: is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decodeYAML(t, tt.doc)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
