package render

import (
	"fmt"
	"io/fs"
	"maps"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/operator"
	"github.com/isthmus-mesh/isthmus/install/values"
)

// The components, by the names that labels and messages use.
const (
	Base            = "Base"
	Pilot           = "Pilot"
	IngressGateways = "IngressGateways"
	EgressGateways  = "EgressGateways"
	CoreDNS         = "IstioCoreDNS"
	MultiCluster    = "MultiCluster"
)

// ComponentLabel says on every object which component it belongs to.
const ComponentLabel = "operator.istio.io/component"

// part is a release with the settings of its component.
type part struct {
	release
	k8s operator.KubernetesResources
	// workload names the Deployment and Service that k8s is about.
	workload string
}

// Render returns the objects of a configuration in the order to apply them in.
// charts holds one directory per chart.
func Render(c *values.Config, charts fs.FS) ([]Object, error) {
	var objs []Object
	namespaces := map[string]bool{}
	for _, p := range parts(c) {
		got, err := p.render(charts)
		if err != nil {
			return nil, err
		}
		if err := customise(got, p.workload, p.k8s); err != nil {
			return nil, fmt.Errorf("component %s: %w", p.component, err)
		}
		namespaces[p.namespace] = true
		objs = append(objs, got...)
	}
	for _, o := range objs {
		label(o)
	}
	for ns := range namespaces {
		objs = append(objs, namespace(ns))
	}
	Sort(objs)
	return objs, unique(objs)
}

// parts lists what is to be rendered.
func parts(c *values.Config) []part {
	s := c.Spec
	var out []part
	add := func(component operator.Component, workload string, r release) {
		if component.On() {
			r.name = workload
			if r.namespace == "" {
				r.namespace = c.Namespace
			}
			r.values = values.Merged(r.values, s.UnvalidatedValues)
			out = append(out, part{release: r, k8s: component.K8s, workload: workload})
		}
	}
	add(s.Components.Base.Component, "istio-base", release{component: Base, chart: "base", values: baseValues(c)})
	add(s.Components.Pilot.Component, "istiod"+suffix(c.Revision), release{component: Pilot, chart: "istiod", values: istiodValues(c)})
	add(s.AddonComponents.IstioCoreDNS, "istiocoredns", release{component: CoreDNS, chart: "istiocoredns", values: corednsValues(c)})
	if on := s.Values.Global.MultiCluster.Enabled; on != nil && *on {
		add(operator.Component{Enabled: on}, "istio-multicluster", release{component: MultiCluster, chart: "multicluster",
			values: map[string]any{"global": globalValues(c)}})
	}
	for _, g := range s.Components.IngressGateways {
		add(g.Component, g.Name, release{component: IngressGateways, chart: "gateway", namespace: g.Namespace, values: gatewayValues(c, g, "ingressgateway")})
	}
	for _, g := range s.Components.EgressGateways {
		add(g.Component, g.Name, release{component: EgressGateways, chart: "gateway", extra: "values-egress.yaml", namespace: g.Namespace, values: gatewayValues(c, g, "egressgateway")})
	}
	return out
}

// suffix is what a revision adds to the names of its objects.
func suffix(revision string) string {
	if revision == "" || revision == api.DefaultRevision {
		return ""
	}
	return "-" + revision
}

// label marks an object as ours.
func label(o Object) {
	labels := o.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[ComponentLabel] = o.Component
	labels[ManagedByLabel] = "isthmus"
	labels["app.kubernetes.io/part-of"] = "istio"
	o.SetLabels(labels)
}

// namespace is a Namespace without any mark of ours: it may be the user's.
func namespace(name string) Object {
	return Object{Component: Base, Unstructured: &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name},
	}}}
}

// unique refuses two objects of one name: the second would undo the first.
func unique(objs []Object) error {
	seen := map[string]string{}
	for _, o := range objs {
		id := o.GroupVersionKind().Group + "/" + o.ID()
		if other, dup := seen[id]; dup {
			return fmt.Errorf("%s is made by component %s and by component %s", o.ID(), other, o.Component)
		}
		seen[id] = o.Component
	}
	return nil
}

// The values of each chart.

func globalValues(c *values.Config) map[string]any {
	return values.Merged(values.Section(c.Tree, "values", "global"), map[string]any{
		"hub": c.Spec.Hub, "tag": c.Spec.Tag, "istioNamespace": c.Namespace,
	})
}

// baseValues are those that the chart has: of the others some are about ways in which
// Helm may install CRDs.
func baseValues(c *values.Config) map[string]any {
	out := map[string]any{}
	if on := c.Spec.Values.Base.EnableMultiClusterServiceCRDs; on != nil {
		out["enableMultiClusterServiceCRDs"] = *on
	}
	return out
}

func istiodValues(c *values.Config) map[string]any {
	return map[string]any{
		"revision": c.Revision, "global": globalValues(c), "meshConfig": orEmpty(values.Section(c.Tree, "meshConfig")),
		"pilot": orEmpty(values.Section(c.Tree, "values", "pilot")), "sidecarInjectorWebhook": orEmpty(values.Section(c.Tree, "values", "sidecarInjectorWebhook")),
	}
}

func corednsValues(c *values.Config) map[string]any {
	return values.Merged(values.Section(c.Tree, "values", "istiocoredns"), map[string]any{
		"global": globalValues(c), "meshConfig": orEmpty(values.Section(c.Tree, "meshConfig")),
	})
}

func gatewayValues(c *values.Config, g operator.Gateway, role string) map[string]any {
	own := maps.Clone(values.Section(c.Tree, "values", "gateways", g.Name))
	delete(own, "enabled")
	labels := map[string]any{"app": g.Name, "istio": role}
	for k, v := range g.Label {
		labels[k] = v
	}
	return values.Merged(map[string]any{
		"name": g.Name, "revision": c.Revision, "labels": labels,
		"global": globalValues(c), "meshConfig": orEmpty(values.Section(c.Tree, "meshConfig")),
	}, own)
}

func orEmpty(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}
