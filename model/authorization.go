package model

import (
	"net/netip"
	"time"
)

// AuthorizationPolicy is one object of that kind, as far as it decides anything: who may
// send which requests to the workloads that it selects, or connect to them.
type AuthorizationPolicy struct {
	Cluster   ClusterID
	Namespace string
	Name      string
	Created   time.Time
	// Selector is nil when the object holds for its whole namespace, or, in the root
	// namespace, for all.
	Selector map[string]string
	// Deny refuses what satisfies a rule. Without it, what satisfies a rule of one of the
	// policies is allowed, and nothing else.
	Deny bool
	// DryRun has it counted and not enforced.
	DryRun bool
	Rules  []AuthRule
}

// Key is the primary key.
func (a *AuthorizationPolicy) Key() string { return key(string(a.Cluster), a.Namespace, a.Name) }

// ReadFrom is the cluster that the row was read from.
func (a *AuthorizationPolicy) ReadFrom() ClusterID { return a.Cluster }

// AuthRule holds when one element of From and one of To do, where there are any, and all
// of When.
type AuthRule struct {
	From, To [][]AuthCheck
	When     []AuthCheck
}

// AuthAttribute is what a check asks about.
type AuthAttribute uint8

// The attributes. Those from AuthRequestPrincipal to AuthClaim are of a verified token.
const (
	AuthPrincipal AuthAttribute = iota
	AuthNamespace
	AuthServiceAccount
	AuthTrustDomain
	AuthSourceIP
	AuthRemoteIP
	AuthDestinationIP
	AuthDestinationPort
	AuthServerName
	AuthHeader
	AuthRequestPrincipal
	AuthAudience
	AuthPresenter
	AuthClaim
	AuthHost
	AuthMethod
	AuthPath
)

// OfRequest tells whether the attribute is one of HTTP requests.
func (a AuthAttribute) OfRequest() bool { return a >= AuthHeader }

// OfCaller tells whether the attribute is one of who calls, and not of what is called.
func (a AuthAttribute) OfCaller() bool {
	return a <= AuthRemoteIP || AuthHeader <= a && a <= AuthClaim
}

// AuthCheck holds when one of Values fits, or there are none, and none of NotValues does.
type AuthCheck struct {
	About             AuthAttribute
	Name              string   // of the header field, in lower case
	Claim             []string // the way to the claim of AuthClaim, through objects
	Values, NotValues []AuthValue
}

// AuthValue is something to compare with. Of Block, Port and Text the one counts that the
// attribute has.
type AuthValue struct {
	Kind  AuthValueKind
	Text  string // without its star
	Block netip.Prefix
	Port  uint16
}

// AuthValueKind is how a text is compared.
type AuthValueKind uint8

// The kinds. AuthTemplate is a path with open segments: * for one, ** for any number.
const (
	AuthExact AuthValueKind = iota
	AuthPrefix
	AuthSuffix
	AuthPresent
	AuthTemplate
)
