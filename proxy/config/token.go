package config

import (
	"time"

	"github.com/isthmus-mesh/isthmus/internal/jwks"
)

// TokenFilter is envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication: which
// tokens (JWT, RFC 7519) requests may carry. It stands before the filters that decide who
// may send requests, which ask about the claims of verified tokens.
type TokenFilter struct {
	Providers []TokenProvider // in the order of their names
	Require   TokenRequirement
}

// TokenProvider is JwtProvider: an issuer, and where its tokens are looked for.
type TokenProvider struct {
	Name   string
	Issuer string
	// Audiences are those of which a token must be for one; empty: for any.
	Audiences []string
	Keys      *jwks.Set // maybe without a key: then no token is verified
	// Headers, Params and Cookies are the places; at least one is given.
	Headers         []TokenHeader
	Params, Cookies []string
	// Forward leaves a verified token in the request.
	Forward bool
	// PayloadHeader is the field that gets the claims of a verified token; "" for none.
	PayloadHeader string
	ClaimHeaders  []ClaimHeader
	// Lists are the claims whose text is a list separated by spaces.
	Lists []string
	// Skew is how far the issuer's clock may differ from this one's.
	Skew time.Duration
}

// TokenHeader is a header field, in lower case, in which a token stands behind a prefix.
type TokenHeader struct{ Name, Prefix string }

// ClaimHeader says that a header field, in lower case, gets a claim.
type ClaimHeader struct{ Header, Claim string }

// RequirementKind is what a [TokenRequirement] asks for.
type RequirementKind uint8

// The kinds.
const (
	// RequireProvider asks for a token that Provider verifies.
	RequireProvider RequirementKind = iota
	// RequireAny and RequireAll ask for one, or all, of Of.
	RequireAny
	RequireAll
	// RequireMissing asks that every token that is there, wherever a provider looks for
	// one, is verified by one of them; there may be none.
	RequireMissing
)

// TokenRequirement is JwtRequirement.
type TokenRequirement struct {
	Kind     RequirementKind
	Provider int // its place among the providers
	Of       []TokenRequirement
}
