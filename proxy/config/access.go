package config

import "net/netip"

// AccessFilter is envoy.extensions.filters.http.rbac.v3.RBAC, or the network filter
// of the same name: who may send requests, or connect. Filters of a chain are asked
// one after another, and each has to let the caller pass.
type AccessFilter struct {
	// Rules decide; Shadow is only counted, under ShadowPrefix. Either may be nil.
	Rules, Shadow *AccessRules
	ShadowPrefix  string
}

// AccessRules is envoy.config.rbac.v3.RBAC. With Deny, what satisfies a policy is
// refused; without, what satisfies none.
type AccessRules struct {
	Deny bool
	// Policies are in the order of their names, in which Envoy asks them.
	Policies []AccessPolicy
}

// AccessPolicy is envoy.config.rbac.v3.Policy: permissions and principals in one test.
type AccessPolicy struct {
	Name string
	Test AccessTest
}

// AccessKind is what an [AccessTest] looks at.
type AccessKind uint8

// The kinds. Those from AccessPrincipal to AccessServerName ask about a connection,
// those after them about a request.
const (
	AccessAlways AccessKind = iota
	AccessAll
	AccessAny
	AccessNot
	AccessPrincipal  // the peer's proven identity satisfies Text
	AccessPeerIP     // the peer's address is in Prefix
	AccessLocalIP    // the address that was called is in Prefix
	AccessLocalPort  // the port that was called is Port
	AccessServerName // the SNI satisfies Text
	AccessRemoteIP   // the address that X-Forwarded-For ends with, else the peer's
	AccessHeader
	AccessPath     // the path, without its query, satisfies Text
	AccessTemplate // the path, without its query, fits Template
	AccessClaim    // the claim at Claim, of a verified token, satisfies Text
)

// OfConnection tells whether a test of the kind has the same result for all requests
// of a connection.
func (k AccessKind) OfConnection() bool { return AccessPrincipal <= k && k <= AccessServerName }

// OfRequest tells whether a test of the kind needs an HTTP request.
func (k AccessKind) OfRequest() bool { return k > AccessRemoteIP }

// AccessTest is envoy.config.rbac.v3.Permission or Principal.
type AccessTest struct {
	Kind     AccessKind
	Of       []AccessTest // of AccessAll, AccessAny, and one of AccessNot
	Text     StringMatch
	Prefix   netip.Prefix
	Port     uint16
	Header   HeaderMatch
	Template PathTemplate
	// Claim leads to a claim: each name but the last is that of an object. A claim that is
	// a text is compared with Scalar; of one that is a list, with List, one text must fit.
	Claim        []string
	Scalar, List bool
}
