package values

import "maps"

// Section returns the mapping at a path of keys in a tree, nil when there is none.
func Section(tree map[string]any, path ...string) map[string]any {
	for _, key := range path {
		tree, _ = tree[key].(map[string]any)
	}
	return tree
}

// Merged returns base with over merged into it, mapping by mapping: what is no
// mapping in over takes the place of what base has. Neither is written.
func Merged(base, over map[string]any) map[string]any {
	out := maps.Clone(base)
	if out == nil {
		out = map[string]any{}
	}
	for k, v := range over {
		if m, ok := v.(map[string]any); ok {
			v = Merged(Section(out, k), m)
		}
		out[k] = v
	}
	return out
}
