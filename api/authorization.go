package api

import (
	"strings"

	security "istio.io/api/security/v1beta1"
)

// AuthAttribute is what a rule of an AuthorizationPolicy asks about, in the words of
// Istio's conditions (https://istio.io/latest/docs/reference/config/security/conditions/)
// where there is one.
type AuthAttribute string

// The attributes.
const (
	AuthPrincipal       AuthAttribute = "source.principal"
	AuthNamespace       AuthAttribute = "source.namespace"
	AuthServiceAccount  AuthAttribute = "source.serviceAccount"
	AuthTrustDomain     AuthAttribute = "source.trustDomain"
	AuthSourceIP        AuthAttribute = "source.ip"
	AuthRemoteIP        AuthAttribute = "remote.ip"
	AuthDestinationIP   AuthAttribute = "destination.ip"
	AuthDestinationPort AuthAttribute = "destination.port"
	AuthServerName      AuthAttribute = "connection.sni"
	AuthHeader          AuthAttribute = "request.headers"
	// Those of a verified token, which takes a RequestAuthentication.
	AuthRequestPrincipal AuthAttribute = "request.auth.principal"
	AuthAudience         AuthAttribute = "request.auth.audiences"
	AuthPresenter        AuthAttribute = "request.auth.presenter"
	AuthClaim            AuthAttribute = "request.auth.claims"

	AuthHost   AuthAttribute = "hosts"
	AuthMethod AuthAttribute = "methods"
	AuthPath   AuthAttribute = "paths"
	// AuthUnknown is one that nobody here knows.
	AuthUnknown AuthAttribute = ""
)

// OfRequest tells whether the attribute is one of HTTP requests, of which there are none
// on a port whose protocol is TCP.
func (a AuthAttribute) OfRequest() bool {
	switch a {
	case AuthHeader, AuthRequestPrincipal, AuthAudience, AuthPresenter, AuthClaim, AuthHost, AuthMethod, AuthPath:
		return true
	}
	return false
}

// AuthCheck is one attribute that a rule asks about. It holds if one of Values fits, or
// none are given, and none of NotValues does.
type AuthCheck struct {
	About AuthAttribute
	// Name is that of the header field, in lower case, of AuthHeader; of AuthUnknown the
	// key that nobody knows.
	Name string
	// Claim leads to the claim of AuthClaim, through the objects that it lies in.
	Claim             []string
	Values, NotValues []string

	at, notAt string // the fields, for errors
}

// AuthRule is a rule: one element of From and one of To must hold, where there are any,
// and all of When. An element holds when all of its checks do.
type AuthRule struct {
	From, To [][]AuthCheck
	When     []AuthCheck
}

// AuthRuleOf brings a rule into one form. path is its field, for errors.
func AuthRuleOf(path string, r *security.Rule) AuthRule {
	var out AuthRule
	for i, from := range r.GetFrom() {
		out.From = append(out.From, sourceChecks(indexed(path+".from", i)+".source", from.GetSource()))
	}
	for i, to := range r.GetTo() {
		out.To = append(out.To, operationChecks(indexed(path+".to", i)+".operation", to.GetOperation()))
	}
	for i, c := range r.GetWhen() {
		at := indexed(path+".when", i)
		check := conditionOf(c.GetKey())
		check.Values, check.NotValues = c.GetValues(), c.GetNotValues()
		check.at, check.notAt = at+".values", at+".notValues"
		out.When = append(out.When, check)
	}
	return out
}

func sourceChecks(path string, s *security.Source) []AuthCheck {
	return given(path, []AuthCheck{
		{About: AuthPrincipal, Values: s.GetPrincipals(), NotValues: s.GetNotPrincipals(), at: "principals", notAt: "notPrincipals"},
		{About: AuthNamespace, Values: s.GetNamespaces(), NotValues: s.GetNotNamespaces(), at: "namespaces", notAt: "notNamespaces"},
		{About: AuthServiceAccount, Values: s.GetServiceAccounts(), NotValues: s.GetNotServiceAccounts(), at: "serviceAccounts", notAt: "notServiceAccounts"},
		{About: AuthTrustDomain, Values: s.GetTrustDomains(), NotValues: s.GetNotTrustDomains(), at: "trustDomains", notAt: "notTrustDomains"},
		{About: AuthSourceIP, Values: s.GetIpBlocks(), NotValues: s.GetNotIpBlocks(), at: "ipBlocks", notAt: "notIpBlocks"},
		{About: AuthRemoteIP, Values: s.GetRemoteIpBlocks(), NotValues: s.GetNotRemoteIpBlocks(), at: "remoteIpBlocks", notAt: "notRemoteIpBlocks"},
		{About: AuthRequestPrincipal, Values: s.GetRequestPrincipals(), NotValues: s.GetNotRequestPrincipals(), at: "requestPrincipals", notAt: "notRequestPrincipals"},
	})
}

func operationChecks(path string, o *security.Operation) []AuthCheck {
	return given(path, []AuthCheck{
		{About: AuthHost, Values: o.GetHosts(), NotValues: o.GetNotHosts(), at: "hosts", notAt: "notHosts"},
		{About: AuthDestinationPort, Values: o.GetPorts(), NotValues: o.GetNotPorts(), at: "ports", notAt: "notPorts"},
		{About: AuthMethod, Values: o.GetMethods(), NotValues: o.GetNotMethods(), at: "methods", notAt: "notMethods"},
		{About: AuthPath, Values: o.GetPaths(), NotValues: o.GetNotPaths(), at: "paths", notAt: "notPaths"},
	})
}

// given are the checks that ask something.
func given(path string, checks []AuthCheck) []AuthCheck {
	out := []AuthCheck{}
	for _, c := range checks {
		if len(c.Values) > 0 || len(c.NotValues) > 0 {
			c.at, c.notAt = path+"."+c.at, path+"."+c.notAt
			out = append(out, c)
		}
	}
	return out
}

// conditionKeys are the keys of conditions, but for those with a part in brackets.
func conditionKeys() []AuthAttribute {
	return []AuthAttribute{
		AuthPrincipal, AuthNamespace, AuthServiceAccount, AuthTrustDomain, AuthSourceIP, AuthRemoteIP, AuthDestinationIP,
		AuthDestinationPort, AuthServerName, AuthRequestPrincipal, AuthAudience, AuthPresenter,
	}
}

// conditionOf reads the key of a condition.
func conditionOf(key string) AuthCheck {
	if field, ok := strings.CutPrefix(key, "request.headers["); ok && strings.HasSuffix(field, "]") {
		return AuthCheck{About: AuthHeader, Name: strings.ToLower(strings.TrimSuffix(field, "]"))}
	}
	if path, ok := strings.CutPrefix(key, string(AuthClaim)+"["); ok && strings.HasSuffix(path, "]") {
		return AuthCheck{About: AuthClaim, Claim: strings.Split(strings.TrimSuffix(path, "]"), "][")}
	}
	for _, a := range conditionKeys() {
		if key == string(a) {
			return AuthCheck{About: a}
		}
	}
	return AuthCheck{About: AuthUnknown, Name: key}
}
