package resources

import (
	"fmt"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	httprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"

	"github.com/isthmus-mesh/isthmus/model"
)

// accessFilters are the filters that decide who may send requests, and who may connect
// where no requests are seen.
type accessFilters struct {
	http []*hcmv3.HttpFilter
	tcp  []*listenerv3.Filter
}

// newAccessFilters makes the filters of policies: those that refuse come first, and what
// passes them has to be allowed, if any policy allows anything. Before both, tokens are
// verified, about which policies ask.
func newAccessFilters(mesh *model.Mesh, tokens []*authentication, policies []*accessPolicy) accessFilters {
	var out accessFilters
	if f := tokenFilter(tokens); f != nil {
		out.http = append(out.http, f)
	}
	for _, deny := range []bool{true, false} {
		b := accessBuilder{mesh: mesh, deny: deny}
		prefix := "istio_dry_run_allow_"
		if deny {
			prefix = "istio_dry_run_deny_"
		}

		rules, shadow := b.rules(policies, false), b.rules(policies, true)
		if rules == nil && shadow == nil {
			continue
		}
		http := &httprbacv3.RBAC{Rules: rules, ShadowRules: shadow}
		b.tcp = true
		tcp := &tcprbacv3.RBAC{Rules: b.rules(policies, false), ShadowRules: b.rules(policies, true), StatPrefix: "tcp."}
		if shadow != nil {
			http.ShadowRulesStatPrefix, tcp.ShadowRulesStatPrefix = prefix, prefix
		}
		out.http = append(out.http, httpAccess(http))
		out.tcp = append(out.tcp, filter("envoy.filters.network.rbac", tcp))
	}
	return out
}

// noMeshIdentities refuses callers that prove an identity of the mesh where another authority
// than the mesh's signs for clients: whoever has that could be anybody to policies, and to the
// applications behind.
func noMeshIdentities(mesh *model.Mesh) accessFilters {
	policy := &rbacv3.Policy{Permissions: []*rbacv3.Permission{permissions().any}}
	for _, prefix := range anyPeer(mesh, "").prefixes {
		policy.Principals = append(policy.Principals, &rbacv3.Principal{Identifier: &rbacv3.Principal_Authenticated_{
			Authenticated: &rbacv3.Principal_Authenticated{PrincipalName: valueMatcher(&model.AuthValue{Kind: model.AuthPrefix, Text: prefix})},
		}})
	}
	rules := &rbacv3.RBAC{Action: rbacv3.RBAC_DENY, Policies: map[string]*rbacv3.Policy{"mesh-identity-of-another-authority": policy}}
	return accessFilters{
		http: []*hcmv3.HttpFilter{httpAccess(&httprbacv3.RBAC{Rules: rules})},
		tcp:  []*listenerv3.Filter{filter("envoy.filters.network.rbac", &tcprbacv3.RBAC{Rules: rules, StatPrefix: "tcp."})},
	}
}

func httpAccess(rules *httprbacv3.RBAC) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{
		Name: "envoy.filters.http.rbac", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(rules)},
	}
}

// accessBuilder makes the rules of one action, for requests or for connections.
type accessBuilder struct {
	mesh *model.Mesh
	deny bool
	tcp  bool
}

// rules are those of the policies that are, or are not, a dry run; nil when there is no
// such policy: then nothing is asked. Policies that allow, and have no rule, allow nobody.
func (b *accessBuilder) rules(policies []*accessPolicy, dryRun bool) *rbacv3.RBAC {
	out := &rbacv3.RBAC{Action: rbacv3.RBAC_ALLOW, Policies: map[string]*rbacv3.Policy{}}
	if b.deny {
		out.Action = rbacv3.RBAC_DENY
	}
	some := false
	for _, p := range policies {
		if p.row.Deny != b.deny || p.row.DryRun != dryRun {
			continue
		}
		some = true
		for i := range p.row.Rules {
			if rule := b.rule(&p.row.Rules[i]); rule != nil {
				out.Policies[fmt.Sprintf("ns[%s]-policy[%s]-rule[%d]", p.row.Namespace, p.row.Name, i)] = rule
			}
		}
	}
	if !some {
		return nil
	}
	return out
}

// rule is nil for one that holds for no connection: where no requests are seen, one that
// allows by what they are. One that refuses refuses all of them.
func (b *accessBuilder) rule(r *model.AuthRule) *rbacv3.Policy {
	if b.tcp && !b.deny && ofRequests(r) {
		return nil
	}
	out := &rbacv3.Policy{}
	for _, to := range orOne(r.To) {
		out.Permissions = append(out.Permissions, allOf(b, permissions(), to, r.When))
	}
	for _, from := range orOne(r.From) {
		out.Principals = append(out.Principals, allOf(b, principals(b.mesh), from, r.When))
	}
	return out
}

// orOne is the list, or an element that asks nothing.
func orOne(list [][]model.AuthCheck) [][]model.AuthCheck {
	if len(list) == 0 {
		return [][]model.AuthCheck{nil}
	}
	return list
}

// ofRequests tells whether a rule asks about requests.
func ofRequests(r *model.AuthRule) bool {
	for _, list := range [][][]model.AuthCheck{r.From, r.To, {r.When}} {
		for _, checks := range list {
			for i := range checks {
				if checks[i].About.OfRequest() {
					return true
				}
			}
		}
	}
	return false
}

// algebra is how Envoy writes tests of one kind, of who calls or of what is called.
type algebra[T any] struct {
	any      T
	ofCaller bool
	all, or  func([]T) T
	not      func(T) T
	// value are the tests of which one must hold for a value to fit; none: it never does.
	// wide asks for all forms in which a request may have it.
	value func(c *model.AuthCheck, v *model.AuthValue, wide bool) []T
}

// allOf asks for all checks of lists that are of the algebra's kind.
func allOf[T any](b *accessBuilder, a algebra[T], lists ...[]model.AuthCheck) T {
	var tests []T
	for _, checks := range lists {
		for i := range checks {
			c := &checks[i]
			if c.About.OfCaller() != a.ofCaller || b.tcp && c.About.OfRequest() {
				continue
			}
			tests = append(tests, a.check(c, b.deny)...)
		}
	}
	switch len(tests) {
	case 0:
		return a.any
	case 1:
		return tests[0]
	}
	return a.all(tests)
}

// check is what one check asks for. Of a rule that refuses, values are taken widely, and
// those that must not be there narrowly; of one that allows, the other way round: in doubt
// nobody is let in.
func (a *algebra[T]) check(c *model.AuthCheck, deny bool) []T {
	var out []T
	if len(c.Values) > 0 {
		if tests := a.values(c, c.Values, deny); len(tests) > 0 {
			out = append(out, a.oneOf(tests))
		} else {
			out = append(out, a.not(a.any))
		}
	}
	if tests := a.values(c, c.NotValues, !deny); len(tests) > 0 {
		out = append(out, a.not(a.oneOf(tests)))
	}
	return out
}

func (a *algebra[T]) values(c *model.AuthCheck, values []model.AuthValue, wide bool) []T {
	var out []T
	for i := range values {
		out = append(out, a.value(c, &values[i], wide)...)
	}
	return out
}

func (a *algebra[T]) oneOf(tests []T) T {
	if len(tests) == 1 {
		return tests[0]
	}
	return a.or(tests)
}
