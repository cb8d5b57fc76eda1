package operator

import (
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// Migrated is what became of an older configuration.
type Migrated struct {
	// Spec is the spec of an IstioOperator.
	Spec Tree
	// Dropped lists what has no place in it, and why.
	Dropped []error
}

// Migrate turns Helm values of Istio's charts, an IstioControlPlane of Istio
// 1.4, or an IstioOperator with keys that mean nothing here, into a spec of
// today. What has no place is left out and told.
func Migrate(data []byte) (*Migrated, error) {
	doc, err := singleDocument(data)
	if err != nil {
		return nil, err
	}
	if doc.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("a mapping was expected, found %s", describe(doc))
	}
	spec, path := doc, ""
	kind := below(doc, "kind")
	switch {
	case kind == nil:
		// Helm values: everything belongs under values.
		key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: "values"}
		spec = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{key, doc}}
	case kind.Value == Kind || kind.Value == "IstioControlPlane":
		if spec, path = below(doc, "spec"), "spec"; spec == nil {
			return nil, errors.New("the document has no spec")
		}
	default:
		return nil, fmt.Errorf("kind %q: Helm values, an IstioControlPlane or an IstioOperator were expected", kind.Value)
	}
	p := &parser{}
	parsed, _ := p.value(spec, specShape(), path).(map[string]any)
	m := &Migrated{Dropped: p.errs}
	m.Spec, err = Tree{}.With(&Layer{spec: parsed})
	return m, err
}

// below returns the value under a key, nil when there is none.
func below(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}
