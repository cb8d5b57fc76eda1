package model

import "time"

// RequestAuthentication is one object of that kind: which tokens the requests may carry
// that workloads which it selects are sent.
type RequestAuthentication struct {
	Cluster   ClusterID
	Namespace string
	Name      string
	Created   time.Time
	// Selector is nil when the object holds for its whole namespace, or, in the root
	// namespace, for all.
	Selector map[string]string
	Rules    []TokenRule
}

// Key is the primary key.
func (a *RequestAuthentication) Key() string { return key(string(a.Cluster), a.Namespace, a.Name) }

// ReadFrom is the cluster that the row was read from.
func (a *RequestAuthentication) ReadFrom() ClusterID { return a.Cluster }

// TokenRule is an issuer of tokens, and what becomes of them.
type TokenRule struct {
	Issuer string
	// Audiences are those of which a token must be for one; none: for any.
	Audiences []string
	// Keys is a JSON Web Key Set; "" where no key is known: then no token is good.
	Keys string
	// Headers, Params and Cookies are where tokens are looked for; none: where Envoy does.
	Headers         []TokenHeader
	Params, Cookies []string
	// Forward leaves a token in the request.
	Forward bool
	// PayloadHeader is the header field that gets the claims; "" for none.
	PayloadHeader string
	ClaimHeaders  []ClaimHeader
	// Lists are claims whose text is a list, separated by spaces.
	Lists []string
}

// TokenHeader is a header field, and what stands before a token in it.
type TokenHeader struct{ Name, Prefix string }

// ClaimHeader is a header field, and the claim that it gets.
type ClaimHeader struct{ Header, Claim string }
