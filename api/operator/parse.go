package operator

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/api/resource"
)

// parser turns YAML nodes into values of the shapes wanted, and collects all
// that is wrong.
type parser struct {
	errs  []error
	nodes int
}

// maxErrors bounds what is reported of one document.
const maxErrors = 20

func (p *parser) err() error {
	if len(p.errs) > maxErrors {
		more := len(p.errs) - maxErrors
		return errors.Join(append(slices.Clone(p.errs[:maxErrors]), fmt.Errorf("and %d more", more))...)
	}
	return errors.Join(p.errs...)
}

func (p *parser) fail(n *yaml.Node, path, format string, args ...any) {
	p.errs = append(p.errs, &FieldError{Path: path, Line: n.Line, Reason: fmt.Sprintf(format, args...)})
}

// unknown reports a key that does not exist under parent.
func (p *parser) unknown(n *yaml.Node, key, parent string, candidates []string) {
	path := join(parent, key)
	if best := nearest(key, candidates); best != "" {
		p.fail(n, path, "unknown key; did you mean %s?", join(parent, best))
		return
	}
	if len(candidates) <= 12 {
		p.fail(n, path, "unknown key; known here: %s", strings.Join(candidates, ", "))
		return
	}
	p.fail(n, path, "unknown key")
}

// pair is one entry of a mapping.
type pair struct {
	key   string
	node  *yaml.Node // of the key
	value *yaml.Node
}

// pairs lists a mapping's entries, merge keys (<<) resolved, refusing doubled
// keys and keys that are not plain words. What stands in the mapping itself
// counts for more than what is merged into it, and the first merged for more
// than the next.
func (p *parser) pairs(n *yaml.Node, path string) []pair {
	out := make([]pair, 0, len(n.Content)/2)
	seen := map[string]int{}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		switch {
		case k.Tag == "!!merge":
			merged = append(merged, p.mergedMappings(v, path)...)
			continue
		case k.Kind != yaml.ScalarNode:
			p.fail(k, path, "a key must be a plain word")
			continue
		case seen[k.Value] != 0:
			p.fail(k, join(path, k.Value), "given twice (first on line %d)", seen[k.Value])
			continue
		}
		seen[k.Value] = k.Line
		out = append(out, pair{key: k.Value, node: k, value: v})
	}
	for _, m := range merged {
		if p.nodes++; p.nodes > maxNodes {
			return out // value reports it
		}
		for _, kv := range p.pairs(m, path) {
			if seen[kv.key] == 0 {
				seen[kv.key] = kv.node.Line
				out = append(out, kv)
			}
		}
	}
	return out
}

// mergedMappings are the mappings that a merge key names: one, or a list.
func (p *parser) mergedMappings(n *yaml.Node, path string) []*yaml.Node {
	target := n
	for target.Kind == yaml.AliasNode {
		target = target.Alias
	}
	switch target.Kind {
	case yaml.MappingNode:
		return []*yaml.Node{target}
	case yaml.SequenceNode:
		var out []*yaml.Node
		for _, c := range target.Content {
			out = append(out, p.mergedMappings(c, path)...)
		}
		return out
	}
	p.fail(n, path, "a merge key (<<) takes a mapping or a list of mappings, found %s", describe(target))
	return nil
}

// value parses a node of the shape s. It returns nil for a null and for what is
// wrong.
func (p *parser) value(n *yaml.Node, s shape, path string) any {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if p.nodes++; p.nodes > maxNodes {
		if p.nodes == maxNodes+1 {
			p.fail(n, path, "the document is too large")
		}
		return nil
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil
	}
	switch s.kind {
	case structKind:
		return p.section(n, s, path)
	case mapKind:
		return p.mapping(n, s, path)
	case listKind:
		return p.list(n, s, path)
	case anyKind:
		return p.free(n, path)
	default:
		return p.scalar(n, s, path)
	}
}

// section parses a mapping with known keys. A null under a section's key means
// an empty section, not the end of what lower layers set.
func (p *parser) section(n *yaml.Node, s shape, path string) any {
	if n.Kind != yaml.MappingNode || n.Tag == editTag {
		p.fail(n, path, "a mapping was expected, found %s", describe(n))
		return nil
	}
	out := map[string]any{}
	for _, kv := range p.pairs(n, path) {
		at := join(path, kv.key)
		f, ok := s.lookup(kv.key)
		if !ok {
			p.otherwise(kv, s, path, out)
			continue
		}
		v, keep := p.field(kv, f, at)
		if !keep {
			continue
		}
		if _, dup := out[f.name]; dup {
			p.fail(kv.node, at, "given twice, in two spellings")
			continue
		}
		out[f.name] = v
	}
	return out
}

// otherwise parses a key that the shape does not have: the spelling of an
// earlier version, or a mistake.
func (p *parser) otherwise(kv pair, s shape, path string, into map[string]any) {
	if s.older != nil {
		for _, o := range s.older() {
			if o.key == camel(kv.key) {
				o.put(into, p.value(kv.value, o.shape, join(path, kv.key)))
				return
			}
		}
	}
	p.unknown(kv.node, kv.key, path, s.names())
}

// field parses the value of a known key; keep is false for what is wrong, or
// says nothing.
func (p *parser) field(kv pair, f field, at string) (v any, keep bool) {
	null := kv.value.Kind == yaml.ScalarNode && kv.value.Tag == "!!null"
	if f.refuse != "" {
		if !null { // a null asks for nothing
			p.fail(kv.node, at, "refused: %s", f.refuse)
		}
		return nil, false
	}
	before := len(p.errs)
	v = p.value(kv.value, f.shape, at)
	if len(p.errs) == before {
		p.restricted(kv, f, v, at)
	}
	wrong := len(p.errs) > before
	if v == nil && (f.shape.kind == structKind || wrong) {
		return nil, false // an empty section, or one that is wrong as a whole
	}
	return v, !wrong || f.off == "" && !f.restricted
}

// restricted enforces a field's off and only rules. What stands beside enabled:
// false is about something that is not installed.
func (p *parser) restricted(kv pair, f field, v any, at string) {
	if f.off != "" {
		m, isMap := v.(map[string]any)
		if on := m["enabled"]; v != nil && (!isMap || len(m) > 0) && on != false {
			p.fail(kv.node, at, "refused: %s", f.off)
		}
	}
	if m, _ := v.(map[string]any); f.moot != "" && m["enabled"] == true {
		p.fail(kv.node, at, "refused: %s", f.moot)
	}
	if f.restricted && v != nil && !slices.Contains(f.only, fmt.Sprint(v)) {
		quoted := make([]string, len(f.only))
		for i, o := range f.only {
			if quoted[i] = o; o == "" {
				quoted[i] = `""`
			}
		}
		p.fail(kv.node, at, "refused: only %s is possible: %s", strings.Join(quoted, " or "), f.because)
	}
}

func (p *parser) mapping(n *yaml.Node, s shape, path string) any {
	if n.Kind != yaml.MappingNode || n.Tag == editTag {
		p.fail(n, path, "a mapping was expected, found %s", describe(n))
		return nil
	}
	elem := s.elem()
	out := map[string]any{}
	for _, kv := range p.pairs(n, path) {
		out[kv.key] = p.value(kv.value, elem, join(path, kv.key))
	}
	return out
}

func (p *parser) list(n *yaml.Node, s shape, path string) any {
	if n.Tag == editTag {
		return p.edit(n, s, path)
	}
	if n.Kind != yaml.SequenceNode {
		p.fail(n, path, "a list was expected, found %s", describe(n))
		return nil
	}
	elem := s.elem()
	out := make([]any, 0, len(n.Content))
	for i, c := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		v := p.value(c, elem, at)
		if m, ok := v.(map[string]any); ok && s.merge != "" && m[s.merge] == nil {
			p.fail(c, at, "%s is missing: it tells the elements of this list apart", s.merge)
		}
		out = append(out, v)
	}
	return out
}

// free parses a node whose shape is not known.
func (p *parser) free(n *yaml.Node, path string) any {
	if n.Tag == editTag {
		return p.edit(n, shape{kind: listKind}, path)
	}
	switch n.Kind {
	case yaml.MappingNode:
		return p.mapping(n, shape{kind: mapKind, elem: func() shape { return shape{kind: anyKind} }}, path)
	case yaml.SequenceNode:
		return p.list(n, shape{kind: listKind, elem: func() shape { return shape{kind: anyKind} }}, path)
	}
	if n.Tag == setTag {
		return inferred(n.Value)
	}
	var v any
	if err := n.Decode(&v); err != nil {
		p.fail(n, path, "%s", strings.TrimPrefix(err.Error(), "yaml: "))
		return nil
	}
	switch x := v.(type) {
	case int:
		return int64(x)
	case uint64:
		if x > math.MaxInt64 {
			return float64(x)
		}
		return int64(x)
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			p.fail(n, path, "a finite number was expected, found %s", n.Value)
			return nil
		}
		return x
	case string, bool, int64, nil:
		return x
	default:
		return n.Value // dates and the like stay what was written
	}
}

// scalar parses a single value. The text of a number that is wanted as a
// string stays as it was written: tag: 1.10 is "1.10".
func (p *parser) scalar(n *yaml.Node, s shape, path string) any {
	if n.Kind != yaml.ScalarNode {
		p.fail(n, path, "%s was expected, found %s", s.kind, describe(n))
		return nil
	}
	raw, set := n.Value, n.Tag == setTag
	bad := func() any {
		p.fail(n, path, "%s was expected, found %s", s.kind, describe(n))
		return nil
	}
	switch s.kind {
	case boolKind:
		if (set || n.Tag == "!!bool") && (strings.EqualFold(raw, "true") || strings.EqualFold(raw, "false")) {
			return strings.EqualFold(raw, "true")
		}
		return bad()
	case intKind:
		v, err := strconv.ParseInt(raw, 10, 64)
		if err != nil || !set && n.Tag != "!!int" {
			return bad()
		}
		return v
	case floatKind:
		v, err := strconv.ParseFloat(raw, 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) || !set && n.Tag != "!!int" && n.Tag != "!!float" {
			return bad()
		}
		return v
	case intOrStringKind:
		if v, err := strconv.ParseInt(raw, 10, 32); err == nil && (set || n.Tag == "!!int") {
			return v
		}
		return raw
	case quantityKind:
		if _, err := resource.ParseQuantity(raw); err != nil {
			p.fail(n, path, "a quantity such as 100m or 128Mi was expected, found %q", raw)
			return nil
		}
		return raw
	case durationKind:
		if _, err := time.ParseDuration(raw); err != nil {
			p.fail(n, path, "a duration such as 10s or 1.5h was expected, found %q", raw)
			return nil
		}
		return raw
	default:
		return p.text(n, s, path)
	}
}

// text parses a string.
func (p *parser) text(n *yaml.Node, s shape, path string) any {
	if n.Tag == "!!bool" && !s.lax {
		p.fail(n, path, "a string was expected, found the boolean %s; write it in quotes", n.Value)
		return nil
	}
	if len(s.oneof) > 0 && n.Value == "" {
		return nil // none chosen
	}
	if len(s.oneof) > 0 && !slices.Contains(s.oneof, n.Value) {
		p.fail(n, path, "%q is not one of %s", n.Value, strings.Join(s.oneof, ", "))
		return nil
	}
	return n.Value
}

func (k kind) String() string {
	switch k {
	case stringKind:
		return "a string"
	case boolKind:
		return "true or false"
	case intKind:
		return "a whole number"
	case floatKind:
		return "a number"
	case structKind, mapKind:
		return "a mapping"
	case listKind:
		return "a list"
	default:
		return "a value"
	}
}

// describe names what a node is, for error messages.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		if n.Tag == editTag {
			return "a list index"
		}
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		return strconv.Quote(n.Value)
	}
}

// join appends a key to a path; keys with dots are put in brackets.
func join(path, key string) string {
	if strings.Contains(key, ".") {
		return path + "[" + key + "]"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}
