package operator

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Layer is one checked document, or one --set, waiting to be laid over a Tree.
// Keys are in camelCase; a nil value takes away what lower layers set.
type Layer struct {
	spec map[string]any
	// Name and Namespace are the document's own, empty when it has none.
	Name, Namespace string
}

// Tree is the spec of one or more layers merged: nothing but maps, lists and
// scalars, keys in camelCase, every value of the type that the schema wants.
type Tree map[string]any

// maxNodes bounds the work that a document can cause, aliases expanded.
const maxNodes = 200_000

// FieldError is one thing wrong in a document.
type FieldError struct {
	// Path is where, such as spec.components.pilot.k8s.
	Path string
	// Line is the line in the document; 0 when there is none, as for --set.
	Line   int
	Reason string
}

func (e *FieldError) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("line %d: %s: %s", e.Line, e.Path, e.Reason)
	}
	return e.Path + ": " + e.Reason
}

// Load reads one IstioOperator document in YAML or JSON. All that is wrong with
// it is reported at once.
func Load(data []byte) (*Layer, error) {
	doc, err := singleDocument(data)
	if err != nil {
		return nil, err
	}
	p := &parser{}
	layer := p.document(doc)
	if err := p.err(); err != nil {
		return nil, err
	}
	return layer, nil
}

// singleDocument returns the one document that is not empty.
func singleDocument(data []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var found *yaml.Node
	for {
		var n yaml.Node
		err := dec.Decode(&n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
		}
		if len(n.Content) == 0 || n.Content[0].Tag == "!!null" {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("line %d: a second document; give each IstioOperator as a file of its own", n.Content[0].Line)
		}
		found = n.Content[0]
	}
	if found == nil {
		return nil, errors.New("the document is empty; an IstioOperator was expected")
	}
	return found, nil
}

// document checks the outer keys and parses the spec.
func (p *parser) document(doc *yaml.Node) *Layer {
	layer := &Layer{spec: map[string]any{}}
	if doc.Kind != yaml.MappingNode {
		p.fail(doc, "document", "a mapping with apiVersion, kind and spec was expected, found %s", describe(doc))
		return layer
	}

	var apiVersion, docKind string
	for _, kv := range p.pairs(doc, "document") {
		switch kv.key {
		case "apiVersion":
			apiVersion = kv.value.Value
		case "kind":
			docKind = kv.value.Value
		case "metadata":
			meta, _ := p.value(kv.value, metadataShape(), "metadata").(map[string]any)
			layer.Name, _ = meta["name"].(string)
			layer.Namespace, _ = meta["namespace"].(string)
		case "spec":
			if m, ok := p.value(kv.value, specShape(), "spec").(map[string]any); ok {
				layer.spec = m
			}
		case "status":
			// What the operator reported is no input.
		default:
			p.outerKey(kv)
		}
	}

	if docKind != Kind {
		p.fail(doc, "kind", "%q was expected, found %q", Kind, docKind)
	}
	if apiVersion != APIVersion {
		p.fail(doc, "apiVersion", "%q was expected, found %q", APIVersion, apiVersion)
	}
	return layer
}

// outerKey reports a key that stands beside spec and may not.
func (p *parser) outerKey(kv pair) {
	outer := []string{"apiVersion", "kind", "metadata", "spec"}
	if _, ok := specShape().lookup(kv.key); ok {
		p.fail(kv.node, kv.key, "unknown at the top level; it belongs under spec: indent it by two spaces more than \"spec:\"")
		return
	}
	p.unknown(kv.node, kv.key, "", outer)
}

// Profile returns the profile that the layer names; "" when it names none.
func (l *Layer) Profile() string {
	name, _ := l.spec["profile"].(string)
	return name
}

// Merged returns the layer as a tree of its own.
func (l *Layer) Merged() (Tree, error) { return Tree{}.With(l) }

// Empty tells whether the document has the key at a path and gives it no value.
func (l *Layer) Empty(path ...string) bool {
	at := l.spec
	for _, key := range path[:len(path)-1] {
		at, _ = at[key].(map[string]any)
	}
	v, given := at[path[len(path)-1]]
	return given && v == nil
}
