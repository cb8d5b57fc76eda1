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
	values := section(t, "values")
	global := section(values, "global")

	mesh := map[string]any{}
	proxy := section(global, "proxy")
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
	mesh = overlay(mesh, section(values, "meshConfig"))
	mesh = overlay(mesh, section(t, "meshConfig"))

	out := operator.Tree(maps.Clone(t))
	if len(mesh) > 0 {
		out["meshConfig"] = mesh
	}
	if v, ok := mesh["trustDomain"]; ok {
		out["values"] = overlay(values, map[string]any{"global": map[string]any{"trustDomain": v}})
	}
	if on, ok := section(values, "pilot")["enabled"]; ok {
		out["components"] = overlay(section(out, "components"), map[string]any{"pilot": map[string]any{"enabled": on}})
	}
	if on, ok := section(values, "istiocoredns")["enabled"]; ok {
		out["addonComponents"] = overlay(section(out, "addonComponents"), map[string]any{"istiocoredns": map[string]any{"enabled": on}})
	}
	return gatewaySwitches(out, section(values, "gateways"))
}

// gatewaySwitches applies values.gateways.NAME.enabled.
func gatewaySwitches(t operator.Tree, gateways map[string]any) operator.Tree {
	components := maps.Clone(section(t, "components"))
	for _, list := range []string{"ingressGateways", "egressGateways"} {
		old, _ := components[list].([]any)
		var changed []any
		for _, g := range old {
			m, _ := g.(map[string]any)
			name, _ := m["name"].(string)
			if on, ok := section(gateways, name)["enabled"]; ok {
				m = overlay(m, map[string]any{"enabled": on})
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

// section returns the mapping under a key, nil when there is none.
func section(m map[string]any, key string) map[string]any {
	s, _ := m[key].(map[string]any)
	return s
}

// overlay returns base with over merged into it, mapping by mapping.
func overlay(base, over map[string]any) map[string]any {
	out := maps.Clone(base)
	if out == nil {
		out = map[string]any{}
	}
	for k, v := range over {
		if m, ok := v.(map[string]any); ok {
			old, _ := out[k].(map[string]any)
			v = overlay(old, m)
		}
		out[k] = v
	}
	return out
}
