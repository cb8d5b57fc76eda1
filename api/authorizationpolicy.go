package api

import (
	"slices"
	"strconv"
	"strings"

	security "istio.io/api/security/v1beta1"
)

// AnnotationDryRun on an AuthorizationPolicy, set to "true", has it counted and not
// enforced.
const AnnotationDryRun = "istio.io/dry-run"

var authorizationPolicyFields = fieldSet{
	"selector": {"matchLabels": nil},
	"action":   nil,
	"rules": {
		"from": {"source": {
			"principals": nil, "notPrincipals": nil, "namespaces": nil, "notNamespaces": nil,
			"serviceAccounts": nil, "notServiceAccounts": nil, "trustDomains": nil, "notTrustDomains": nil,
			"ipBlocks": nil, "notIpBlocks": nil, "remoteIpBlocks": nil, "notRemoteIpBlocks": nil,
			"requestPrincipals": nil, "notRequestPrincipals": nil,
		}},
		"to": {"operation": {
			"hosts": nil, "notHosts": nil, "ports": nil, "notPorts": nil,
			"methods": nil, "notMethods": nil, "paths": nil, "notPaths": nil,
		}},
		"when": nil,
	},
}

func validateAuthorizationPolicy(p *problems, obj *Object, ap *security.AuthorizationPolicy) {
	p.checkLabels("spec.selector.matchLabels", ap.GetSelector().GetMatchLabels())
	switch ap.Action {
	case security.AuthorizationPolicy_ALLOW, security.AuthorizationPolicy_DENY, security.AuthorizationPolicy_AUDIT:
	case security.AuthorizationPolicy_CUSTOM:
		p.addf("spec.action", "CUSTOM: external authorizers are not supported yet; use ALLOW or DENY")
	default:
		p.addf("spec.action", "%s is unknown; set ALLOW, DENY or AUDIT", ap.Action)
	}

	if _, err := DryRun(obj.Annotations); err != nil {
		p.addf("metadata.annotations["+AnnotationDryRun+"]", "%q is neither true nor false", obj.Annotations[AnnotationDryRun])
	}
	for i, r := range ap.Rules {
		validateAuthRule(p, indexed("spec.rules", i), r)
	}
}

// DryRun tells whether annotations ask for a dry run.
func DryRun(annotations map[string]string) (bool, error) {
	v, given := annotations[AnnotationDryRun]
	if !given {
		return false, nil
	}
	return strconv.ParseBool(v)
}

func validateAuthRule(p *problems, path string, r *security.Rule) {
	rule := AuthRuleOf(path, r)
	for i, from := range rule.From {
		at := indexed(path+".from", i) + ".source"
		if len(from) == 0 {
			p.addf(at, "is empty, and would be anybody; say who, or leave from out")
		}
		if asks(from, AuthServiceAccount) && (asks(from, AuthPrincipal) || asks(from, AuthNamespace)) {
			p.addf(at+".serviceAccounts", "cannot stand beside principals or namespaces; they say the same")
		}
		p.checkAuth(from)
	}
	for i, to := range rule.To {
		if len(to) == 0 {
			p.addf(indexed(path+".to", i)+".operation", "is empty, and would be anything; say what, or leave to out")
		}
		p.checkAuth(to)
	}
	p.checkAuth(rule.When)
}

func (p *problems) checkAuth(checks []AuthCheck) {
	for i := range checks {
		*p = append(*p, checks[i].Problems()...)
	}
}

func asks(checks []AuthCheck, about AuthAttribute) bool {
	return slices.ContainsFunc(checks, func(c AuthCheck) bool { return c.About == about })
}

// warnAuthorizationPolicy notes what has another effect than people may expect.
func warnAuthorizationPolicy(w *problems, ap *security.AuthorizationPolicy) {
	switch {
	case ap.Action == security.AuthorizationPolicy_AUDIT:
		w.addf("spec.action", "AUDIT changes nothing: the proxy has no audit log to write to; denied requests stand in the access log")
	case ap.Action == security.AuthorizationPolicy_DENY && len(ap.Rules) == 0:
		w.addf("spec.rules", "is empty: DENY without rules refuses nobody; to refuse everything, leave spec.action out, or give the rule {}")
	}

	for i, r := range ap.Rules {
		rule := AuthRuleOf(indexed("spec.rules", i), r)
		for _, checks := range slices.Concat(rule.From, rule.To, [][]AuthCheck{rule.When}) {
			for j := range checks {
				checks[j].warn(w)
			}
		}
	}
}

func (c *AuthCheck) warn(w *problems) {
	switch c.About {
	case AuthRemoteIP:
		at := c.at
		if len(c.Values) == 0 {
			at = c.notAt
		}
		w.addf(at, "is about the last address in X-Forwarded-For, which every caller in the mesh may write itself; ipBlocks and principals are proven")
	case AuthPath:
		for i, v := range c.Values {
			if !strings.HasPrefix(v, "/") && !strings.HasPrefix(v, "*") {
				w.addf(indexed(c.at, i), "%q matches no request: paths begin with a slash", v)
			}
		}
	}
}
