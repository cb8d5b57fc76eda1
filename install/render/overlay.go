package render

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/api/operator"
)

// overlay applies k8s.overlays: values set by path in any object of the
// component.
func (e *editor) overlay(o operator.Overlay) {
	if e.err != nil {
		return
	}
	u := e.find(o.Kind, o.Name)
	if u == nil {
		return
	}
	for _, p := range o.Patches {
		steps, err := pathSteps(p.Path)
		if err == nil {
			_, err = patch(u.Object, steps, asJSON(p.Value))
		}
		if err != nil {
			e.err = fmt.Errorf("overlays: %s %s: %s: %w", o.Kind, o.Name, p.Path, err)
			return
		}
	}
}

// pathSteps splits a path such as spec.containers[name:istio-proxy].args[0], or
// in Istio's older form spec.containers.[name:istio-proxy].args.[0]. A dot in a
// key is written after a backslash, or the key in brackets and quotes.
func pathSteps(path string) ([]string, error) {
	var steps []string
	var key strings.Builder
	flush := func() {
		if key.Len() > 0 {
			steps = append(steps, key.String())
			key.Reset()
		}
	}

	for i := 0; i < len(path); i++ {
		switch path[i] {
		case '\\':
			if i++; i < len(path) {
				key.WriteByte(path[i])
			}
		case '.':
			flush()
		case '[':
			flush()
			end := strings.IndexByte(path[i:], ']')
			if end < 0 {
				return nil, fmt.Errorf("a [ is not closed")
			}
			steps = append(steps, path[i:i+end+1])
			i += end
		default:
			key.WriteByte(path[i])
		}
	}

	flush()
	if len(steps) == 0 {
		return nil, fmt.Errorf("the path is empty")
	}
	return steps, nil
}

// patch sets value (nil removes) under steps and returns the changed node.
func patch(node any, steps []string, value any) (any, error) {
	if len(steps) == 0 {
		return value, nil
	}
	step := steps[0]
	if strings.HasPrefix(step, "[") {
		return patchElement(node, strings.Trim(step, "[]"), steps[1:], value)
	}
	m, ok := node.(map[string]any)
	if !ok {
		if node != nil {
			return nil, fmt.Errorf("%s: not a mapping", step)
		}
		m = map[string]any{}
	}
	v, err := patch(m[step], steps[1:], value)
	if err != nil {
		return nil, err
	}
	if v == nil {
		delete(m, step)
	} else {
		m[step] = v
	}
	return m, nil
}

// patchElement patches the element of a list that sel selects: an index (-1:
// append), key:value, or for lists of scalars :value.
func patchElement(node any, sel string, rest []string, value any) (any, error) {
	list, ok := node.([]any)
	if !ok && node != nil {
		return nil, fmt.Errorf("[%s]: not a list", sel)
	}
	at, err := element(list, sel)
	if err != nil {
		return nil, err
	}
	if at == len(list) {
		if value == nil {
			return list, nil
		}
		v, err := patch(nil, rest, value)
		return append(list, v), err
	}
	v, err := patch(list[at], rest, value)
	if err != nil {
		return nil, err
	}
	if v == nil {
		return slices.Delete(list, at, at+1), nil
	}
	list[at] = v
	return list, nil
}

func element(list []any, sel string) (int, error) {
	if i, err := strconv.Atoi(sel); err == nil {
		if i == -1 {
			return len(list), nil
		}
		if i < 0 || i > len(list) {
			return 0, fmt.Errorf("[%s]: the list has %d elements", sel, len(list))
		}
		return i, nil
	}
	key, want, ok := strings.Cut(sel, ":")
	if !ok {
		return 0, fmt.Errorf("[%s] is neither an index nor [key:value]", sel)
	}
	at := slices.IndexFunc(list, func(v any) bool {
		if key == "" {
			return fmt.Sprint(v) == want
		}
		m, _ := v.(map[string]any)
		return m != nil && fmt.Sprint(m[key]) == want
	})
	if at < 0 {
		return 0, fmt.Errorf("[%s]: no such element", sel)
	}
	return at, nil
}
