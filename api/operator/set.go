package operator

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Tags that mark nodes made from a --set expression and not from YAML.
const (
	setTag  = "!set"  // a scalar whose type the schema decides
	editTag = "!edit" // a mapping of one selector to the new value of that list element
)

// step is one part of a --set path: a key, or the selection of a list element
// by its index or by its name.
type step struct {
	key   string
	list  bool
	index int // -1: by name
	name  string
}

// ParseSet reads PATH=VALUE, where PATH is relative to spec. Keys are separated
// by dots; a dot, an equals sign, a bracket or a backslash inside a key is
// written after a backslash. [2] selects an element of a list by index,
// [name:x] by name; an index one past the end appends. VALUE reaches to the end
// of the argument; {a,b} is a list (a comma inside an element is written \,),
// null takes away what lower layers set, and everything else has the type that
// the schema wants.
func ParseSet(expr string) (*Layer, error) {
	steps, rest, err := parsePath(expr)
	if err != nil {
		return nil, fmt.Errorf("--set %s: %w", expr, err)
	}
	node := setValue(rest)
	for i := len(steps) - 1; i >= 0; i-- {
		node = steps[i].wrap(node)
	}
	p := &parser{}
	spec, _ := p.value(node, specShape(), "").(map[string]any)
	if err := p.err(); err != nil {
		return nil, fmt.Errorf("--set %s: %w", expr, err)
	}
	return &Layer{spec: spec}, nil
}

// wrap puts a node under the step.
func (s step) wrap(n *yaml.Node) *yaml.Node {
	if !s.list {
		key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s.key}
		return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{key, n}}
	}
	sel := s.name
	if s.index >= 0 {
		sel = "#" + strconv.Itoa(s.index)
	}
	key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: sel}
	return &yaml.Node{Kind: yaml.MappingNode, Tag: editTag, Content: []*yaml.Node{key, n}}
}

// parsePath splits an expression at the first bare "=" and returns the steps
// before and the text after.
func parsePath(expr string) (steps []step, value string, err error) {
	var key strings.Builder
	flush := func() {
		if key.Len() > 0 {
			steps = append(steps, step{key: key.String()})
			key.Reset()
		}
	}
	for i := 0; i < len(expr); i++ {
		switch c := expr[i]; c {
		case '\\':
			if i+1 == len(expr) {
				return nil, "", fmt.Errorf("the path ends in a backslash")
			}
			i++
			key.WriteByte(expr[i])
		case '.':
			if key.Len() == 0 && (len(steps) == 0 || !steps[len(steps)-1].list) {
				return nil, "", fmt.Errorf("an empty key at position %d of the path", i+1)
			}
			flush()
		case '[':
			flush()
			end := strings.IndexByte(expr[i:], ']')
			if end < 0 {
				return nil, "", fmt.Errorf("a [ at position %d of the path is not closed", i+1)
			}
			s, err := parseSelector(expr[i+1 : i+end])
			if err != nil {
				return nil, "", err
			}
			steps = append(steps, s)
			i += end
		case '=':
			flush()
			if len(steps) == 0 {
				return nil, "", fmt.Errorf("the path before the = is empty")
			}
			if steps[0].list {
				return nil, "", fmt.Errorf("the path starts with a list index")
			}
			return steps, expr[i+1:], nil
		default:
			key.WriteByte(c)
		}
	}
	return nil, "", fmt.Errorf("no = found; the form is path.to.key=value")
}

// maxIndex bounds list indexes.
const maxIndex = 1000

func parseSelector(sel string) (step, error) {
	if name, ok := strings.CutPrefix(sel, "name:"); ok && name != "" {
		return step{list: true, index: -1, name: name}, nil
	}
	i, err := strconv.Atoi(sel)
	if err != nil || i < 0 || i > maxIndex {
		return step{}, fmt.Errorf("[%s] is neither an index nor [name:NAME]", sel)
	}
	return step{list: true, index: i}, nil
}

// setValue turns the text after the = into a node.
func setValue(raw string) *yaml.Node {
	if raw == "null" {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: raw}
	}
	inner, isList := strings.CutPrefix(raw, "{")
	inner, closed := strings.CutSuffix(inner, "}")
	if !isList || !closed {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: setTag, Value: raw}
	}
	seq := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
	if strings.TrimSpace(inner) == "" {
		return seq
	}
	var elem strings.Builder
	flush := func() {
		seq.Content = append(seq.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: setTag, Value: strings.TrimSpace(elem.String())})
		elem.Reset()
	}
	for i := 0; i < len(inner); i++ {
		switch {
		case inner[i] == '\\' && i+1 < len(inner):
			i++
			elem.WriteByte(inner[i])
		case inner[i] == ',':
			flush()
		default:
			elem.WriteByte(inner[i])
		}
	}
	flush()
	return seq
}

// inferred gives a --set value the type that it looks like, where the schema
// does not say: a boolean, a whole number (unless it has a leading zero), else
// a string.
func inferred(raw string) any {
	switch raw {
	case "true":
		return true
	case "false":
		return false
	}
	if v, err := strconv.ParseInt(raw, 10, 64); err == nil && strconv.FormatInt(v, 10) == raw {
		return v
	}
	return raw
}
