package render

import (
	"io/fs"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/api/operator"
)

// Operator is the component that the operator's own objects belong to.
const Operator = "Operator"

// OperatorConfig says how the operator is to run.
type OperatorConfig struct {
	Namespace string
	Hub, Tag  string
	// Watch lists the namespaces, besides its own, whose IstioOperator
	// resources count; "*" is all.
	Watch []string
}

// RenderOperator returns the operator's objects, the CRD of IstioOperator
// included, in the order to apply them in.
func RenderOperator(c OperatorConfig, charts fs.FS) ([]Object, error) {
	watch := make([]any, len(c.Watch))
	for i, ns := range c.Watch {
		watch[i] = ns
	}
	objs, err := release{
		component: Operator, chart: "operator", name: "istio-operator", namespace: c.Namespace,
		values: map[string]any{"hub": c.Hub, "tag": c.Tag, "watchedNamespaces": watch},
	}.render(charts)
	if err != nil {
		return nil, err
	}
	objs = append(objs, Object{Component: Operator, Unstructured: &unstructured.Unstructured{Object: operator.CRD()}})
	for _, o := range objs {
		label(o)
	}
	objs = append(objs, namespace(c.Namespace))
	Sort(objs)
	return objs, unique(objs)
}
