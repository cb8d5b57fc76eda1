package clusters

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// claims are what a token of a service account says of itself. Nobody here
// checks the signature: the API server that the token is for does, and these are
// only for knowing when to ask it for another.
type claims struct {
	Subject   string   `json:"sub"`
	Audiences audience `json:"aud"`
	// Times are in seconds of Unix time, and may have a fraction (RFC 7519,
	// section 2, NumericDate).
	Expires   float64 `json:"exp"`
	IssuedAt  float64 `json:"iat"`
	NotBefore float64 `json:"nbf"`
}

// audience is one or several (RFC 7519, section 4.1.3).
type audience []string

// UnmarshalJSON reads one string or a list.
func (a *audience) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(a))
}

func readClaims(token string) (c claims, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c, errors.New("the token is no JWT")
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal(raw, &c)
}

func seconds(s float64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(s * 1000)).UTC()
}

// ends is when the token ends; zero when it does not.
func (c claims) ends() time.Time { return seconds(c.Expires) }

// begins is when the token began; zero when it does not say.
func (c claims) begins() time.Time {
	if c.IssuedAt != 0 {
		return seconds(c.IssuedAt)
	}
	return seconds(c.NotBefore)
}

// account is the service account that the token is of.
func (c claims) account() (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(c.Subject, "system:serviceaccount:")
	if !ok {
		return "", "", false
	}
	namespace, name, ok = strings.Cut(rest, ":")
	return namespace, name, ok && namespace != "" && name != ""
}
