package compile

import (
	"strconv"
	"strings"

	security "istio.io/api/security/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/model"
)

// AuthorizationPolicy makes the row of an AuthorizationPolicy, also of one that is wrong:
// what of it cannot be carried out never lets anybody in. A rule of ALLOW that holds
// something wrong is left out, and so allows nothing; one of DENY is left without that
// part, and so refuses more. CUSTOM refuses what it would ask an external authorizer
// about, as if that could not be reached.
//
// It is nil for an object that decides nothing: AUDIT, and what is about a Gateway.
func AuthorizationPolicy(c model.ClusterID, obj *api.Object) *model.AuthorizationPolicy {
	ap := obj.Spec.(*security.AuthorizationPolicy)
	if ap.Action == security.AuthorizationPolicy_AUDIT || ap.TargetRef != nil || len(ap.TargetRefs) > 0 {
		return nil
	}

	// An annotation that nobody can read asks for nothing.
	dryRun, _ := api.DryRun(obj.Annotations)
	row := &model.AuthorizationPolicy{
		Cluster:   c,
		Namespace: obj.Namespace,
		Name:      obj.Name,
		Created:   obj.Created,
		Deny:      ap.Action != security.AuthorizationPolicy_ALLOW,
		DryRun:    dryRun,
	}
	if labels := ap.GetSelector().GetMatchLabels(); len(labels) > 0 {
		row.Selector = labels
	}

	b := authBuilder{namespace: obj.Namespace, deny: row.Deny}
	for i, r := range ap.Rules {
		if rule, ok := b.rule(api.AuthRuleOf("spec.rules["+strconv.Itoa(i)+"]", r)); ok {
			row.Rules = append(row.Rules, rule)
		}
	}
	return row
}

// ClosedPolicy is the row of an AuthorizationPolicy that cannot be read but for whom it
// selects and whether it denies: it lets nobody in.
func ClosedPolicy(c model.ClusterID, obj *api.Object, selector map[string]string, deny bool) *model.AuthorizationPolicy {
	row := &model.AuthorizationPolicy{Cluster: c, Namespace: obj.Namespace, Name: obj.Name, Created: obj.Created, Deny: deny}
	if len(selector) > 0 {
		row.Selector = selector
	}
	if deny {
		row.Rules = []model.AuthRule{{}}
	}
	return row
}

// authBuilder makes the rules of one policy.
type authBuilder struct {
	namespace string
	deny      bool
}

// rule is false for one that is to be left out.
func (b *authBuilder) rule(r api.AuthRule) (out model.AuthRule, ok bool) {
	if out.From, ok = b.lists(r.From); !ok {
		return out, false
	}
	if out.To, ok = b.lists(r.To); !ok {
		return out, false
	}
	out.When, ok = b.checks(r.When)
	return out, ok
}

func (b *authBuilder) lists(of [][]api.AuthCheck) (out [][]model.AuthCheck, ok bool) {
	for _, checks := range of {
		list, ok := b.checks(checks)
		if !ok {
			return nil, false
		}
		out = append(out, list)
	}
	return out, true
}

func (b *authBuilder) checks(checks []api.AuthCheck) ([]model.AuthCheck, bool) {
	out := make([]model.AuthCheck, 0, len(checks))
	for i := range checks {
		c := &checks[i]
		if len(c.Problems()) == 0 {
			out = append(out, b.check(c))
		} else if !b.deny {
			return nil, false
		}
	}
	return out, true
}

func (b *authBuilder) check(c *api.AuthCheck) model.AuthCheck {
	out := model.AuthCheck{About: authAttributes[c.About], Name: c.Name, Claim: c.Claim}
	for _, v := range c.Values {
		out.Values = append(out.Values, b.value(c.About, v))
	}
	for _, v := range c.NotValues {
		out.NotValues = append(out.NotValues, b.value(c.About, v))
	}
	return out
}

var authAttributes = map[api.AuthAttribute]model.AuthAttribute{
	api.AuthPrincipal:        model.AuthPrincipal,
	api.AuthNamespace:        model.AuthNamespace,
	api.AuthServiceAccount:   model.AuthServiceAccount,
	api.AuthTrustDomain:      model.AuthTrustDomain,
	api.AuthSourceIP:         model.AuthSourceIP,
	api.AuthRemoteIP:         model.AuthRemoteIP,
	api.AuthDestinationIP:    model.AuthDestinationIP,
	api.AuthDestinationPort:  model.AuthDestinationPort,
	api.AuthServerName:       model.AuthServerName,
	api.AuthHeader:           model.AuthHeader,
	api.AuthRequestPrincipal: model.AuthRequestPrincipal,
	api.AuthAudience:         model.AuthAudience,
	api.AuthPresenter:        model.AuthPresenter,
	api.AuthClaim:            model.AuthClaim,
	api.AuthHost:             model.AuthHost,
	api.AuthMethod:           model.AuthMethod,
	api.AuthPath:             model.AuthPath,
}

// value reads a text that was found to be right.
func (b *authBuilder) value(about api.AuthAttribute, v string) model.AuthValue {
	switch about {
	case api.AuthSourceIP, api.AuthRemoteIP, api.AuthDestinationIP:
		block, _ := api.ParseBlock(v)
		return model.AuthValue{Block: block}
	case api.AuthDestinationPort:
		port, _ := strconv.ParseUint(v, 10, 16)
		return model.AuthValue{Port: uint16(port)}
	case api.AuthServiceAccount:
		if !strings.Contains(v, "/") {
			v = b.namespace + "/" + v
		}
		return model.AuthValue{Text: v}
	case api.AuthPath:
		if strings.ContainsAny(v, "{}") {
			return model.AuthValue{Kind: model.AuthTemplate, Text: strings.NewReplacer("{", "", "}", "").Replace(v)}
		}
	}

	if v == "*" {
		return model.AuthValue{Kind: model.AuthPresent}
	}
	if text, ok := strings.CutSuffix(v, "*"); ok {
		return model.AuthValue{Kind: model.AuthPrefix, Text: text}
	}
	if text, ok := strings.CutPrefix(v, "*"); ok {
		return model.AuthValue{Kind: model.AuthSuffix, Text: text}
	}
	return model.AuthValue{Text: v}
}
