package config

import (
	"strings"
	"testing"
	"time"

	jwtv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
)

const (
	testTokenKeys = `"local_jwks": {"inline_string": "{\"keys\":[]}"}`
	testRules     = `"rules": [{"match": {"prefix": "/"}, "requires": {"requires_any": {"requirements": [{"provider_name": "p"}, {"allow_missing": {}}]}}}]`
)

func tokenFilterOf(t *testing.T, text string) (*TokenFilter, error) {
	t.Helper()
	p := &jwtv3.JwtAuthentication{}
	if err := protojson.Unmarshal([]byte(text), p); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	body, err := anypb.New(p)
	if err != nil {
		t.Fatal(err)
	}
	return decodeTokens(at{kind: "listener", name: "l"}, body)
}

// TestTokenFilter: what is read, with Envoy's defaults.
func TestTokenFilter(t *testing.T) {
	f, err := tokenFilterOf(t, `{"providers": {"p": {"issuer": "iss", "payload_in_metadata": "payload", "forward_payload_header": "X-Payload", `+testTokenKeys+`}}, `+testRules+`}`)
	if err != nil {
		t.Fatal(err)
	}
	p := f.Providers[0]
	if p.Skew != time.Minute || len(p.Headers) != 1 || p.Headers[0] != (TokenHeader{"authorization", "Bearer "}) || len(p.Params) != 1 || p.Params[0] != "access_token" || p.PayloadHeader != "x-payload" {
		t.Errorf("read as %+v", p)
	}
	if f.Require.Kind != RequireAny || len(f.Require.Of) != 2 || f.Require.Of[1].Kind != RequireMissing {
		t.Errorf("the requirement is %+v", f.Require)
	}
}

// TestTokenFiltersThatAreRefused: what would verify less, or other requests, than it says.
func TestTokenFiltersThatAreRefused(t *testing.T) {
	provider := func(more string) string {
		return `{"providers": {"p": {"issuer": "iss", "payload_in_metadata": "payload", ` + more + `}}, ` + testRules + `}`
	}
	rules := func(rules string) string {
		return `{"providers": {"p": {"issuer": "iss", "payload_in_metadata": "payload", ` + testTokenKeys + `}}, "rules": [` + rules + `]}`
	}
	for name, tt := range map[string]struct{ text, want string }{
		"any issuer":             {`{"providers": {"p": {"payload_in_metadata": "payload", ` + testTokenKeys + `}}, ` + testRules + `}`, "providers[p].issuer: is empty"},
		"claims elsewhere":       {`{"providers": {"p": {"issuer": "iss", "payload_in_metadata": "x", ` + testTokenKeys + `}}, ` + testRules + `}`, `providers[p].payload_in_metadata: is "x"`},
		"keys elsewhere":         {provider(`"remote_jwks": {"http_uri": {"uri": "https://a", "cluster": "c", "timeout": "1s"}}`), "providers[p].remote_jwks: is not supported"},
		"keys of a file":         {provider(`"local_jwks": {"filename": "/keys"}`), "providers[p].local_jwks: is not an inline_string"},
		"keys that are none":     {provider(`"local_jwks": {"inline_string": "x"}`), "providers[p].local_jwks.inline_string: is no JSON Web Key Set"},
		"subjects":               {provider(`"subjects": {"prefix": "a"}, ` + testTokenKeys), "providers[p].subjects: is not supported"},
		"a field without a name": {provider(`"from_headers": [{"value_prefix": "x"}], ` + testTokenKeys), "providers[p].from_headers[0].name: is empty"},
		"a claim without a name": {provider(`"claim_to_headers": [{"header_name": "x"}], ` + testTokenKeys), "providers[p].claim_to_headers[0]: needs"},
		"no rule":                {rules(``), "rules: has 0 elements"},
		"some requests":          {rules(`{"match": {"prefix": "/a"}, "requires": {"provider_name": "p"}}`), "rules[0].match: is not the prefix /"},
		"by their fields":        {rules(`{"match": {"prefix": "/", "headers": [{"name": "a", "present_match": true}]}, "requires": {"provider_name": "p"}}`), "rules[0].match.headers: is not supported"},
		"nothing":                {rules(`{"match": {"prefix": "/"}}`), "rules[0].requires: asks for nothing"},
		"an unknown provider":    {rules(`{"match": {"prefix": "/"}, "requires": {"provider_name": "q"}}`), `rules[0].requires.provider_name: there is no provider "q"`},
		"failed ones":            {rules(`{"match": {"prefix": "/"}, "requires": {"allow_missing_or_failed": {}}}`), "rules[0].requires.allow_missing_or_failed: is not supported"},
		"any of none":            {rules(`{"match": {"prefix": "/"}, "requires": {"requires_any": {}}}`), "rules[0].requires.requires_any: is empty"},
		"no CORS":                {`{"bypass_cors_preflight": true}`, "bypass_cors_preflight: is not supported"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := tokenFilterOf(t, tt.text); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
