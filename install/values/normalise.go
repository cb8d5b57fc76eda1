package values

import (
	"maps"

	"github.com/isthmus-mesh/isthmus/api/operator"
)

// normalise moves settings from their older places to where the rest of the
// installer looks: values.X.enabled to the component, values.meshConfig and the
// proxy's log settings to meshConfig. What stands in the newer place wins,
// except that an explicit values.X.enabled is newer than a profile's default.
func normalise(t operator.Tree) operator.Tree {
	values := Section(t, "values")
	global := Section(values, "global")

	mesh := map[string]any{}
	proxy := Section(global, "proxy")
	for _, k := range []string{"accessLogFile", "accessLogFormat", "accessLogEncoding"} {
		if v, ok := proxy[k]; ok {
			mesh[k] = v
		}
	}
	if v, ok := proxy["concurrency"]; ok {
		mesh["defaultConfig"] = map[string]any{"concurrency": v}
	}
	if v, ok := global["trustDomain"]; ok {
		mesh["trustDomain"] = v
	}
	mesh = Merged(mesh, Section(values, "meshConfig"))
	mesh = Merged(mesh, Section(t, "meshConfig"))

	out := operator.Tree(maps.Clone(t))
	if len(mesh) > 0 {
		out["meshConfig"] = mesh
	}
	if v, ok := mesh["trustDomain"]; ok {
		out["values"] = Merged(values, map[string]any{"global": map[string]any{"trustDomain": v}})
	}
	if on, ok := Section(values, "pilot")["enabled"]; ok {
		out["components"] = Merged(Section(out, "components"), map[string]any{"pilot": map[string]any{"enabled": on}})
	}
	if on, ok := Section(values, "istiocoredns")["enabled"]; ok {
		out["addonComponents"] = Merged(Section(out, "addonComponents"), map[string]any{"istiocoredns": map[string]any{"enabled": on}})
	}
	return gatewaySwitches(out, Section(values, "gateways"))
}

// gatewaySwitches applies values.gateways.NAME.enabled.
func gatewaySwitches(t operator.Tree, gateways map[string]any) operator.Tree {
	components := maps.Clone(Section(t, "components"))
	for _, list := range []string{"ingressGateways", "egressGateways"} {
		old, _ := components[list].([]any)
		var changed []any
		for _, g := range old {
			m, _ := g.(map[string]any)
			name, _ := m["name"].(string)
			if on, ok := Section(gateways, name)["enabled"]; ok {
				m = Merged(m, map[string]any{"enabled": on})
			}
			changed = append(changed, m)
		}
		if changed != nil {
			components[list] = changed
		}
	}
	t["components"] = components
	return t
}
