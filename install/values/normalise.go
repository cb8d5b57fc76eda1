package values

import (
	"maps"
	"regexp"

	"github.com/isthmus-mesh/isthmus/api/operator"
)

// normalise moves settings from their older places to where the rest of the
// installer looks: values.X.enabled to the component, values.meshConfig and the
// proxy's log settings to meshConfig. What stands in the newer place wins,
// except that an explicit values.X.enabled is newer than a profile's default.
func normalise(t operator.Tree) operator.Tree {
	values := placed(Section(t, "values"))
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
	if values != nil {
		out["values"] = values
	}
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

// placed fills in the cluster's name and network, where they are not given, from
// the path by which later versions of Istio tell them to the injector of another
// cluster: /inject/cluster/NAME/net/NETWORK.
func placed(values map[string]any) map[string]any {
	path, _ := Section(values, "istiodRemote")["injectionPath"].(string)
	found := injectionPath.FindStringSubmatch(path)
	if found == nil {
		return values
	}
	said := map[string]any{"network": found[2], "multiCluster": map[string]any{"clusterName": found[1]}}
	return Merged(values, map[string]any{"global": Merged(said, Section(values, "global"))})
}

// injectionPath is the path with its two names.
var injectionPath = regexp.MustCompile(`^/inject/cluster/([^/]+)/net/([^/]*)$`)

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
