package api

import (
	"strings"

	meshconfig "istio.io/api/mesh/v1alpha1"
)

// warnVisibility notes what is wrong in the fields of the mesh configuration that
// say which namespaces count, who sees what, and which services stay within their
// cluster. What is wrong matches nothing: it opens nothing that was to be shut.
func warnVisibility(mc *meshconfig.MeshConfig) []string {
	var w problems
	for i, s := range mc.DiscoverySelectors {
		at := indexed("discoverySelectors", i)
		w.checkLabels(at+".matchLabels", s.GetMatchLabels())
		for j, e := range s.GetMatchExpressions() {
			w.checkExpression(indexed(at+".matchExpressions", j), e)
		}
	}

	for i, s := range mc.ServiceSettings {
		at := indexed("serviceSettings", i)
		if len(s.Hosts) == 0 {
			w.addf(at+".hosts", "is empty, so that the settings are about no service; list host names, such as *.NAMESPACE.svc.cluster.local")
		}
		for j, host := range s.Hosts {
			w.checkSettingHost(indexed(at+".hosts", j), host)
		}
	}

	w.checkExportTo("defaultServiceExportTo", mc.DefaultServiceExportTo, true)
	w.checkExportTo("defaultDestinationRuleExportTo", mc.DefaultDestinationRuleExportTo, true)
	w.checkExportTo("defaultVirtualServiceExportTo", mc.DefaultVirtualServiceExportTo, true)
	return w
}

// checkExpression notes a condition that no labels satisfy.
func (p *problems) checkExpression(path string, e *meshconfig.LabelSelectorRequirement) {
	switch e.Operator {
	case "In", "NotIn":
		if len(e.Values) == 0 {
			p.addf(path+".values", "is empty; %s needs values", e.Operator)
		}
	case "Exists", "DoesNotExist":
		if len(e.Values) > 0 {
			p.addf(path+".values", "change nothing: %s looks at the key alone", e.Operator)
		}
	default:
		p.addf(path+".operator", "%q is none of In, NotIn, Exists and DoesNotExist: the selector selects nothing", e.Operator)
	}
}

// checkSettingHost notes a pattern that is about no service: those there are, are
// full names, *.suffix and *.
func (p *problems) checkSettingHost(path, host string) {
	name := host
	if name == "*" {
		return
	}
	if suffix, ok := strings.CutPrefix(name, "*."); ok {
		name = suffix
	}
	if strings.Contains(name, "*") || !strings.Contains(name, ".") {
		p.addf(path, "%q is about no service; give a full host name (NAME.NAMESPACE.svc.cluster.local), *.SUFFIX or *", host)
	}
}
