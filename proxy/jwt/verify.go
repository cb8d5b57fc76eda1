package jwt

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"

	"github.com/isthmus-mesh/isthmus/internal/jwks"
	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// Why a request is refused: what Envoy's filter says in its place, where there is such.
const (
	missing       = "Jwt is missing"
	malformed     = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"
	badHeader     = "Jwt header is an invalid JSON"
	badAlgorithm  = "Jwt header [alg] is not supported"
	critical      = "Jwt header [crit] asks for extensions that are not supported"
	badPayload    = "Jwt payload is an invalid JSON"
	badTime       = "Jwt payload has a time that is not a number"
	unknownIssuer = "Jwt issuer is not configured"
	early         = "Jwt not yet valid"
	expired       = "Jwt is expired"
	badAudience   = "Audiences in Jwt are not allowed"
	noKeys        = "Jwks remote fetch is failed"
	noKey         = "Jwks doesn't have key to match kid or alg from Jwt"
	forged        = "Jwt verification fails"
	tooLong       = "Jwt is longer than 16384 bytes"
	tooMany       = "Jwt verification fails: the request has more than 8 tokens"
	ambiguous     = "Jwt verification fails: the request has several tokens in one place"
)

// maxTries bounds the keys that are tried for a token that names none: each costs a
// verification, and anybody can send one.
const maxTries = 10

// verified is a token whose signature and issuer are right. It is immutable.
type verified struct {
	claims  map[string]any
	outputs []Field
	// since and until bound when it is valid, without the skew of clocks; zero: no bound.
	since, until time.Time
}

// refusedAt returns why a token is refused at a time, "" if it is not.
func (t *verified) refusedAt(now time.Time, skew time.Duration) string {
	switch {
	case !t.since.IsZero() && now.Add(skew).Before(t.since):
		return early
	case !t.until.IsZero() && now.Add(-skew).After(t.until):
		return expired
	}
	return ""
}

// verify verifies a token by the keys of a provider, or remembers that it did.
func (v *Verifier) verify(i int, f *found, now time.Time) (*verified, string) {
	if !f.known {
		f.digest, f.known = digestOf(f.text), true
	}
	p := &v.filter.Providers[i]
	key := cacheKey{i, f.digest}
	if t := v.cache.get(key); t != nil {
		return t, t.refusedAt(now, p.Skew)
	}

	t, refused := verifyBy(p, f.text, now)
	if refused == "" {
		v.cache.put(key, t)
	}
	return t, refused
}

// header is what counts of a token's header (RFC 7515 section 4.1).
type header struct {
	Algorithm jose.SignatureAlgorithm `json:"alg"`
	KeyID     string                  `json:"kid"`
	Critical  json.RawMessage         `json:"crit"`
}

// verifyBy verifies a token by the keys of a provider. What costs most comes last.
func verifyBy(p *config.TokenProvider, token string, now time.Time) (*verified, string) {
	part := strings.Split(token, ".")
	if len(part) != 3 || !isToken(token) {
		return nil, malformed
	}
	var head header
	if !decode(part[0], &head) {
		return nil, badHeader
	}
	switch {
	case !slices.Contains(jwks.Algorithms(), head.Algorithm):
		return nil, badAlgorithm
	case head.Critical != nil:
		return nil, critical
	}
	var claims map[string]any
	if !decode(part[1], &claims) || claims == nil {
		return nil, badPayload
	}

	if issuer, _ := claims["iss"].(string); issuer != p.Issuer {
		return nil, unknownIssuer
	}
	out := &verified{claims: claims}
	var ok bool
	if out.since, ok = timeOf(claims, "nbf"); !ok {
		return nil, badTime
	}
	if out.until, ok = timeOf(claims, "exp"); !ok {
		return nil, badTime
	}
	if refused := out.refusedAt(now, p.Skew); refused != "" {
		return nil, refused
	}
	if len(p.Audiences) > 0 && !slices.ContainsFunc(texts(claims["aud"]), func(a string) bool { return slices.Contains(p.Audiences, a) }) {
		return nil, badAudience
	}
	if refused := verifySignature(p.Keys, token, &head); refused != "" {
		return nil, refused
	}

	out.fill(p, part[1])
	return out, ""
}

// isToken tells whether a text holds nothing but what the compact form does (RFC 7515
// section 7.1): the decoder of base64 would pass over line ends.
func isToken(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

// decode reads a part of a token. Names that stand twice in an object make it invalid:
// readers differ about which of them counts.
func decode(part string, into any) bool {
	raw, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil || len(raw) == 0 {
		return false
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.SetNumberType(json.UnmarshalJSONNumber) // an integer keeps all of its digits
	if d.Decode(into) != nil {
		return false
	}
	var more json.RawMessage // behind the object there is nothing
	return raw[0] == '{' && errors.Is(d.Decode(&more), io.EOF)
}

// verifySignature tries the keys that a token may be signed with: those of its key ID, and
// those without one.
func verifySignature(keys *jwks.Set, token string, head *header) (refused string) {
	if len(keys.Keys) == 0 {
		return noKeys
	}
	var signed *jose.JSONWebSignature
	tries := 0
	for i := range keys.Keys {
		k := &keys.Keys[i]
		if head.KeyID != "" && k.ID != "" && head.KeyID != k.ID || !slices.Contains(k.Algorithms, head.Algorithm) {
			continue
		}
		if tries++; tries > maxTries {
			break
		}
		if signed == nil {
			var err error
			if signed, err = jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{head.Algorithm}); err != nil {
				return forged
			}
		}
		if _, err := signed.Verify(k.Public); err == nil {
			return ""
		}
	}
	if tries == 0 {
		return noKey
	}
	return forged
}

// timeOf reads a claim that is a time (RFC 7519 section 2, NumericDate); zero where there is
// none. It is false for what is no time.
func timeOf(claims map[string]any, name string) (time.Time, bool) {
	v, has := claims[name]
	if !has {
		return time.Time{}, true
	}
	n, ok := v.(json.Number)
	if !ok {
		return time.Time{}, false
	}
	seconds, err := n.Float64()
	if err != nil || math.IsNaN(seconds) || seconds < 0 {
		return time.Time{}, false
	}
	const latest = 1 << 40 // years beyond all use, in seconds
	return time.Unix(int64(min(seconds, latest)), 0), true
}

// texts are those of a claim that is one, or a list.
func texts(claim any) []string {
	switch v := claim.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, one := range v {
			if s, ok := one.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

// fill makes of a token that was verified what requests with it get.
func (t *verified) fill(p *config.TokenProvider, payload string) {
	for _, c := range p.ClaimHeaders {
		if text, ok := fieldValue(claimAt(t.claims, c.Claim)); ok {
			t.outputs = append(t.outputs, Field{c.Header, text})
		}
	}
	if p.PayloadHeader != "" {
		t.outputs = append(t.outputs, Field{p.PayloadHeader, strings.Clone(payload)}) // the request's buffer is used again
	}
	for _, name := range p.Lists {
		splitAt(t.claims, name)
	}
}

// claimAt finds a claim: by its name, or by the names of the objects that it lies in, with
// dots between them.
func claimAt(claims map[string]any, path string) any {
	if v, has := claims[path]; has {
		return v
	}
	outer, inner, nested := strings.Cut(path, ".")
	if !nested {
		return nil
	}
	object, _ := claims[outer].(map[string]any)
	return claimAt(object, inner)
}

// splitAt makes a list of a claim whose text is one, separated by spaces.
func splitAt(claims map[string]any, path string) {
	if text, ok := claims[path].(string); ok {
		var list []any
		for _, one := range strings.Fields(text) {
			list = append(list, one)
		}
		claims[path] = list
		return
	}
	outer, inner, nested := strings.Cut(path, ".")
	if object, ok := claims[outer].(map[string]any); ok && nested {
		splitAt(object, inner)
	}
}

// fieldValue writes a claim as a header field; it is false for what cannot be written as
// one.
func fieldValue(claim any) (string, bool) {
	var text string
	switch v := claim.(type) {
	case string:
		text = v
	case json.Number:
		text = v.String()
	case bool:
		text = strconv.FormatBool(v)
	default:
		return "", false
	}
	for i := range len(text) {
		// A line end would begin a field of the token's own making (RFC 9110 section 5.5).
		if c := text[i]; c < ' ' && c != '\t' || c == 0x7f {
			return "", false
		}
	}
	return text, true
}
