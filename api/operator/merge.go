package operator

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// listEdit changes one element of a list that lower layers set.
type listEdit struct {
	index int // -1: by name
	name  string
	value any
}

// edit parses the selection of a list element.
func (p *parser) edit(n *yaml.Node, s shape, path string) any {
	sel := n.Content[0].Value
	e := listEdit{index: -1, name: sel}
	if num, ok := strings.CutPrefix(sel, "#"); ok {
		e.name = ""
		e.index, _ = strconv.Atoi(num)
		path = fmt.Sprintf("%s[%d]", path, e.index)
	} else {
		path = fmt.Sprintf("%s[name:%s]", path, sel)
	}
	e.value = p.value(n.Content[1], elemOf(s), path)
	if m, ok := e.value.(map[string]any); ok && e.name != "" {
		if m["name"] == nil {
			m["name"] = e.name
		}
	}
	return e
}

// With returns the tree with a layer laid over it: mappings are merged key by
// key, lists are replaced unless the schema names a key by which their elements
// are matched, nil takes away. Neither argument is changed.
func (t Tree) With(l *Layer) (Tree, error) {
	v, err := merge(map[string]any(t), l.spec, specShape(), "")
	if err != nil {
		return nil, err
	}
	m, _ := v.(map[string]any)
	return Tree(m), nil
}

func merge(base, over any, s shape, path string) (any, error) {
	switch o := over.(type) {
	case map[string]any:
		b, _ := base.(map[string]any)
		return mergeMap(b, o, s, path)
	case listEdit:
		b, _ := base.([]any)
		return mergeEdit(b, o, s, path)
	case []any:
		b, _ := base.([]any)
		if s.merge != "" {
			return mergeByKey(b, o, s, path)
		}
		out := make([]any, len(o))
		for i, v := range o {
			var err error
			if out[i], err = merge(nil, v, elemOf(s), fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return nil, err
			}
		}
		return out, nil
	default:
		return over, nil
	}
}

func mergeMap(base, over map[string]any, s shape, path string) (any, error) {
	out := maps.Clone(base)
	if out == nil {
		out = map[string]any{}
	}
	// In order, so that of several errors it is the same each time.
	for _, k := range slices.Sorted(maps.Keys(over)) {
		v := over[k]
		if v == nil {
			delete(out, k)
			continue
		}
		child := shape{kind: anyKind}
		switch s.kind {
		case structKind:
			if f, ok := s.lookup(k); ok {
				child = f.shape
			}
		case mapKind:
			child = s.elem()
		}
		m, err := merge(out[k], v, child, join(path, k))
		if err != nil {
			return nil, err
		}
		out[k] = m
	}
	return out, nil
}

// mergeByKey merges the elements whose key is the same, and appends the others.
func mergeByKey(base, over []any, s shape, path string) (any, error) {
	out := slices.Clone(base)
	for _, v := range over {
		m, _ := v.(map[string]any)
		at := indexByKey(out, s.merge, m[s.merge])
		var old any
		if at >= 0 {
			old = out[at]
		}
		merged, err := merge(old, v, elemOf(s), path)
		if err != nil {
			return nil, err
		}
		if at >= 0 {
			out[at] = merged
		} else {
			out = append(out, merged)
		}
	}
	if out == nil {
		out = []any{}
	}
	return out, nil
}

func mergeEdit(base []any, e listEdit, s shape, path string) (any, error) {
	out := slices.Clone(base)
	at := e.index
	if at < 0 {
		if at = indexByKey(out, "name", e.name); at < 0 {
			at = len(out)
		}
	}
	if at > len(out) {
		return nil, fmt.Errorf("%s[%d]: the list has %d elements; the next index is %d", path, at, len(out), len(out))
	}
	if e.value == nil {
		if at < len(out) {
			out = slices.Delete(out, at, at+1)
		}
		return out, nil
	}
	var old any
	if at < len(out) {
		old = out[at]
	}
	v, err := merge(old, e.value, elemOf(s), fmt.Sprintf("%s[%d]", path, at))
	if err != nil {
		return nil, err
	}
	if at == len(out) {
		if m, ok := v.(map[string]any); ok && s.merge != "" && m[s.merge] == nil {
			return nil, fmt.Errorf("%s[%d]: a new element needs its %s: set %s[%d].%s too, and before", path, at, s.merge, path, at, s.merge)
		}
		return append(out, v), nil
	}
	out[at] = v
	return out, nil
}

func indexByKey(list []any, key string, want any) int {
	return slices.IndexFunc(list, func(v any) bool {
		m, _ := v.(map[string]any)
		return m != nil && m[key] == want
	})
}

func elemOf(s shape) shape {
	if s.elem == nil {
		return shape{kind: anyKind}
	}
	return s.elem()
}
