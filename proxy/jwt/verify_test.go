package jwt

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/isthmus-mesh/isthmus/internal/jwks"
	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/jwt/jwttest"
)

var now = time.Unix(1_800_000_000, 0)

type object = map[string]any

// claimsOf are claims of issuer "iss", valid for an hour, and more.
func claimsOf(more object) object {
	out := object{"iss": "iss", "sub": "me", "exp": now.Add(time.Hour).Unix()}
	for name, value := range more {
		out[name] = value
	}
	return out
}

func keysOf(t testing.TB, issuers ...*jwttest.Issuer) *jwks.Set {
	t.Helper()
	set, err := jwks.Parse([]byte(jwttest.JWKS(t, issuers...)))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// providerOf is one of issuer "iss" with the places that there are by default.
func providerOf(keys *jwks.Set) config.TokenProvider {
	return config.TokenProvider{
		Name: "iss", Issuer: "iss", Keys: keys, Skew: time.Minute,
		Headers: []config.TokenHeader{{Name: "authorization", Prefix: "Bearer "}}, Params: []string{"access_token"},
	}
}

// TestAlgorithms: each that is supported verifies, by its key and by no other.
func TestAlgorithms(t *testing.T) {
	for _, a := range jwks.Algorithms() {
		t.Run(string(a), func(t *testing.T) {
			i, other := jwttest.NewIssuer(t, a, "k"), jwttest.NewIssuer(t, a, "k")
			p := providerOf(keysOf(t, i))
			if _, refused := verifyBy(&p, i.Token(claimsOf(nil)), now); refused != "" {
				t.Error(refused)
			}
			if _, refused := verifyBy(&p, other.Token(claimsOf(nil)), now); refused != forged {
				t.Errorf("a token by another key: %q", refused)
			}
		})
	}
}

// TestForgedTokens: ways in which tokens were made that others took for good.
func TestForgedTokens(t *testing.T) {
	good, attacker := jwttest.NewIssuer(t, jose.RS256, "k"), jwttest.NewIssuer(t, jose.RS256, "k")
	p := providerOf(keysOf(t, good))
	payload, _ := json.Marshal(claimsOf(nil))
	token := good.Token(claimsOf(nil))
	part := strings.Split(token, ".")
	admin, _ := json.Marshal(claimsOf(object{"sub": "admin"}))
	jwk := jose.JSONWebKey{Key: attacker.Public(), KeyID: "k"}

	// The public key, in the forms in which it is published, as the secret of an HMAC.
	hs256 := func(secret []byte) string {
		text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","kid":"k"}`)) + "." + base64.RawURLEncoding.EncodeToString(payload)
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(text))
		return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	der, err := x509.MarshalPKIXPublicKey(good.Public())
	if err != nil {
		t.Fatal(err)
	}

	for name, tt := range map[string]struct{ token, want string }{
		"none":                       {jwttest.Unsigned(`{"alg":"none"}`, string(payload), ""), badAlgorithm},
		"none, in capitals":          {jwttest.Unsigned(`{"alg":"NONE"}`, string(payload), ""), badAlgorithm},
		"none, with a signature":     {jwttest.Unsigned(`{"alg":"none","kid":"k"}`, string(payload), "x"), badAlgorithm},
		"no algorithm":               {jwttest.Unsigned(`{}`, string(payload), "x"), badAlgorithm},
		"HMAC by the public key":     {hs256(der), badAlgorithm},
		"HMAC by its PEM":            {hs256(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), badAlgorithm},
		"another payload":            {part[0] + "." + base64.RawURLEncoding.EncodeToString(admin) + "." + part[2], forged},
		"no signature":               {part[0] + "." + part[1] + ".", forged},
		"its own key":                {attacker.Token(claimsOf(nil), object{"jwk": jwk}), forged},
		"a key that it points to":    {attacker.Token(claimsOf(nil), object{"jku": "https://attacker.example/jwks"}), forged},
		"a certificate elsewhere":    {attacker.Token(claimsOf(nil), object{"x5u": "https://attacker.example/cert"}), forged},
		"an unknown key":             {jwttest.NewIssuer(t, jose.RS256, "other").Token(claimsOf(nil)), noKey},
		"a kid that is a path":       {attacker.Token(claimsOf(nil), object{"kid": "../../dev/null"}), noKey},
		"another type of key":        {jwttest.NewIssuer(t, jose.ES256, "k").Token(claimsOf(nil)), noKey},
		"crit":                       {good.Token(claimsOf(nil), object{"crit": []string{"exp"}}), critical},
		"crit, b64":                  {good.Token(claimsOf(nil), object{"crit": []string{"b64"}, "b64": true}), critical},
		"two parts":                  {part[0] + "." + part[1], malformed},
		"four parts":                 {token + ".x", malformed},
		"encrypted":                  {token + ".x.y", malformed},
		"padding":                    {part[0] + "." + part[1] + "=." + part[2], malformed},
		"a line end":                 {part[0] + "\n." + part[1] + "." + part[2], malformed},
		"JSON serialization":         {`{"payload":"` + part[1] + `","signatures":[]}`, malformed},
		"a header that is no object": {jwttest.Unsigned(`"x"`, string(payload), "x"), badHeader},
		"a header of two":            {jwttest.Unsigned(`{"alg":"RS256"}{}`, string(payload), "x"), badHeader},
		"alg twice":                  {jwttest.Unsigned(`{"alg":"none","alg":"RS256"}`, string(payload), "x"), badHeader},
		"a payload that is a list":   {good.Sign([]byte(`[]`)), badPayload},
		"a payload that is null":     {good.Sign([]byte(`null`)), badPayload},
		"sub twice":                  {good.Sign([]byte(`{"iss":"iss","sub":"me","sub":"admin"}`)), badPayload},
		"sub twice, deep":            {good.Sign([]byte(`{"iss":"iss","a":{"sub":"me","sub":"admin"}}`)), badPayload},
		"another issuer":             {good.Token(claimsOf(object{"iss": "other"})), unknownIssuer},
		"an issuer with a slash":     {good.Token(claimsOf(object{"iss": "iss/"})), unknownIssuer},
		"issuers":                    {good.Token(claimsOf(object{"iss": []string{"iss"}})), unknownIssuer},
		"no issuer":                  {good.Sign([]byte(`{"sub":"me"}`)), unknownIssuer},
		"its name in other letters":  {good.Sign([]byte(`{"ISS":"iss"}`)), unknownIssuer},
	} {
		t.Run(name, func(t *testing.T) {
			if got, refused := verifyBy(&p, tt.token, now); refused != tt.want {
				t.Errorf("refused for %q, want %q; %v", refused, tt.want, got)
			}
		})
	}
}

// TestTimes: tokens are good from nbf to exp, give or take the skew of clocks.
func TestTimes(t *testing.T) {
	i := jwttest.NewIssuer(t, jose.ES256, "")
	p := providerOf(keysOf(t, i))
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	for name, tt := range map[string]struct {
		claims object
		want   string
	}{
		"in time":               {object{"nbf": at(-time.Hour), "exp": at(time.Hour)}, ""},
		"over, within the skew": {object{"exp": at(-59 * time.Second)}, ""},
		"over":                  {object{"exp": at(-61 * time.Second)}, expired},
		"long over":             {object{"exp": 0}, expired},
		"soon, within the skew": {object{"nbf": at(59 * time.Second)}, ""},
		"too early":             {object{"nbf": at(61 * time.Second)}, early},
		"a fraction":            {object{"exp": float64(at(time.Hour)) + 0.5}, ""},
		"for ever":              {object{"exp": 1e300}, ""},
		"a text":                {object{"exp": "2030-01-01"}, badTime},
		"a number as a text":    {object{"exp": "9999999999"}, badTime},
		"null":                  {object{"exp": nil}, badTime},
		"negative":              {object{"exp": -1}, badTime},
		"nbf, a text":           {object{"nbf": "0"}, badTime},
	} {
		t.Run(name, func(t *testing.T) {
			claims := object{"iss": "iss"}
			for name, value := range tt.claims {
				claims[name] = value
			}
			if _, refused := verifyBy(&p, i.Token(claims), now); refused != tt.want {
				t.Errorf("refused for %q, want %q", refused, tt.want)
			}
		})
	}
	if _, refused := verifyBy(&p, i.Token(object{"iss": "iss"}), now); refused != "" {
		t.Errorf("without any time: %q", refused)
	}
}

func TestAudiences(t *testing.T) {
	i := jwttest.NewIssuer(t, jose.ES256, "")
	p := providerOf(keysOf(t, i))
	p.Audiences = []string{"a", "b"}
	for name, tt := range map[string]struct {
		aud  any
		want string
	}{
		"one":          {"a", ""},
		"in a list":    {[]string{"x", "b"}, ""},
		"another":      {"x", badAudience},
		"others":       {[]string{"x", "y"}, badAudience},
		"empty":        {[]string{}, badAudience},
		"a number":     {1, badAudience},
		"with a space": {"a b", badAudience},
	} {
		t.Run(name, func(t *testing.T) {
			if _, refused := verifyBy(&p, i.Token(claimsOf(object{"aud": tt.aud})), now); refused != tt.want {
				t.Errorf("refused for %q, want %q", refused, tt.want)
			}
		})
	}
	if _, refused := verifyBy(&p, i.Token(claimsOf(nil)), now); refused != badAudience {
		t.Errorf("for nobody: %q", refused)
	}
}

// TestKeys: a token that names a key is verified by that or by one without a name; one that
// names none, by each. Without keys nobody is let in.
func TestKeys(t *testing.T) {
	a, b, unnamed := jwttest.NewIssuer(t, jose.ES256, "a"), jwttest.NewIssuer(t, jose.ES256, "b"), jwttest.NewIssuer(t, jose.ES256, "")
	p := providerOf(keysOf(t, a, b, unnamed))
	for name, token := range map[string]string{
		"the first": a.Token(claimsOf(nil)), "the second": b.Token(claimsOf(nil)), "none": unnamed.Token(claimsOf(nil)),
		"a name that the set does not give": unnamed.Token(claimsOf(nil), object{"kid": "new"}),
	} {
		if _, refused := verifyBy(&p, token, now); refused != "" {
			t.Errorf("%s: %q", name, refused)
		}
	}
	if _, refused := verifyBy(&p, a.Token(claimsOf(nil), object{"kid": "b"}), now); refused != forged {
		t.Errorf("by the name of another: %q", refused)
	}

	p.Keys = &jwks.Set{}
	if _, refused := verifyBy(&p, a.Token(claimsOf(nil)), now); refused != noKeys {
		t.Errorf("without keys: %q", refused)
	}

	var many []*jwttest.Issuer
	for range maxTries + 1 {
		many = append(many, jwttest.NewIssuer(t, jose.ES256, ""))
	}
	p.Keys = keysOf(t, many...)
	if _, refused := verifyBy(&p, many[maxTries].Token(claimsOf(nil)), now); refused != forged {
		t.Errorf("by more keys than are tried: %q", refused)
	}
}

// FuzzToken: no text that the issuer did not sign is a token, and none is more than refused.
func FuzzToken(f *testing.F) {
	i := jwttest.NewIssuer(f, jose.ES256, "k")
	p := providerOf(keysOf(f, i))
	good := i.Token(claimsOf(nil))
	part := strings.Split(good, ".")
	for _, seed := range []string{
		"", ".", "..", good, good + ".", part[0] + ".." + part[2], "Bearer " + good,
		jwttest.Unsigned(`{"alg":"none"}`, `{"iss":"iss"}`, ""), jwttest.Unsigned(`{"alg":"ES256"}`, `{"iss":"iss","exp":1e400}`, "x"),
		jwttest.Unsigned(`{"alg":"ES256","kid":"k"}`, strings.Repeat(`{"a":`, 1000), "x"),
	} {
		f.Add(seed)
	}
	signed := strings.Join(part[:2], ".")
	f.Fuzz(func(t *testing.T, token string) {
		_, refused := verifyBy(&p, token, now)
		// The last character of the signature may differ in bits that mean nothing.
		if refused == "" && !strings.HasPrefix(token, signed+".") {
			t.Errorf("%q is taken for a token", token)
		}
	})
}
