package render

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// Object is one Kubernetes object of an installation.
type Object struct {
	*unstructured.Unstructured
	// Component is the part of the installation that it belongs to.
	Component string
}

// ID names the object: Kind/namespace/name, or Kind/name.
func (o Object) ID() string {
	if ns := o.GetNamespace(); ns != "" {
		return o.GetKind() + "/" + ns + "/" + o.GetName()
	}
	return o.GetKind() + "/" + o.GetName()
}

// ManagedByLabel is on every object of ours, but for namespaces.
const ManagedByLabel = "app.kubernetes.io/managed-by"

// IsShared tells whether an object is nobody's own: the CRDs of the Multi-Cluster
// Services API, which whatever other implementation there is installs, too.
func IsShared(o *unstructured.Unstructured) bool {
	return o.GetKind() == "CustomResourceDefinition" && strings.HasSuffix(o.GetName(), ".multicluster.x-k8s.io")
}

// Stage is a step of an installation. Objects of one stage do not need each
// other; those of a later one need those of the earlier ones.
type Stage int

// The stages, in order. Bindings come after the roles that they name: whoever has
// no "bind" must hold every rule of a role to bind it, so the API server looks the
// role up, and refuses the binding when it is not there. Webhooks come last, so that nothing is sent to a
// webhook whose server is not there yet; the mesh's own resources come after
// the workloads, so that a webhook of an earlier installation has its server
// back before it is asked.
const (
	StageCRDs Stage = iota
	StageAccess
	StageBindings
	StageConfig
	StageWorkloads
	StageResources
	StageWebhooks
)

// StageOf returns the stage in which an object is applied.
func StageOf(o *unstructured.Unstructured) Stage {
	switch o.GroupVersionKind().Group {
	case "apiextensions.k8s.io":
		return StageCRDs
	case "rbac.authorization.k8s.io":
		if IsBinding(o.GroupVersionKind()) {
			return StageBindings
		}
		return StageAccess
	case "admissionregistration.k8s.io":
		return StageWebhooks
	case "apps", "autoscaling", "policy":
		return StageWorkloads
	case "", "discovery.k8s.io":
		switch o.GetKind() {
		case "Namespace", "ServiceAccount":
			return StageAccess
		}
		return StageConfig
	}
	return StageResources
}

// IsBinding reports whether a kind gives a role to somebody.
func IsBinding(gvk schema.GroupVersionKind) bool {
	return gvk.Group == "rbac.authorization.k8s.io" && (gvk.Kind == "ClusterRoleBinding" || gvk.Kind == "RoleBinding")
}

// rank orders kinds within a stage.
func rank(kind string) int {
	order := []string{"Namespace", "ServiceAccount", "ClusterRole", "Role", "ClusterRoleBinding", "RoleBinding",
		"ConfigMap", "Secret", "Service", "EndpointSlice", "Deployment"}
	if i := slices.Index(order, kind); i >= 0 {
		return i
	}
	return len(order)
}

// Sort puts objects in the order to apply them in.
func Sort(objs []Object) {
	slices.SortStableFunc(objs, func(a, b Object) int {
		return cmp.Or(
			cmp.Compare(StageOf(a.Unstructured), StageOf(b.Unstructured)),
			cmp.Compare(rank(a.GetKind()), rank(b.GetKind())),
			strings.Compare(a.GetKind(), b.GetKind()),
			strings.Compare(a.GetNamespace(), b.GetNamespace()),
			strings.Compare(a.GetName(), b.GetName()),
		)
	})
}

// Decode reads the objects of a YAML stream; documents without content are
// skipped. Lists are taken apart.
func Decode(text []byte, component string) ([]Object, error) {
	var out []Object
	for _, doc := range documents(text) {
		u := &unstructured.Unstructured{}
		js := doc
		if doc[0] != '{' {
			var err error
			if js, err = yaml.YAMLToJSON(doc); err != nil {
				return nil, err
			}
			if string(js) == "null" {
				continue
			}
		}
		if err := u.UnmarshalJSON(js); err != nil {
			return nil, fmt.Errorf("not a Kubernetes object: %w", err)
		}
		if !u.IsList() {
			out = append(out, Object{Unstructured: u, Component: component})
			continue
		}
		err := u.EachListItem(func(item runtime.Object) error {
			out = append(out, Object{Unstructured: item.(*unstructured.Unstructured), Component: component})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// documents splits a YAML stream at its separator lines.
func documents(text []byte) [][]byte {
	var docs [][]byte
	start := 0
	add := func(end int) {
		if d := bytes.TrimSpace(text[start:end]); len(d) > 0 {
			docs = append(docs, d)
		}
	}
	for at := 0; at < len(text); {
		end := bytes.IndexByte(text[at:], '\n')
		if end < 0 {
			end = len(text) - at
		}
		line := text[at : at+end]
		if bytes.HasPrefix(line, []byte("---")) && len(bytes.TrimSpace(line)) == 3 {
			add(at)
			start = min(at+end+1, len(text))
		}
		at += end + 1
	}
	add(len(text))
	return docs
}

// YAML writes objects as a stream that kubectl takes.
func YAML(objs []Object) ([]byte, error) {
	var out bytes.Buffer
	for _, o := range objs {
		doc, err := yaml.Marshal(o.Object)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.ID(), err)
		}
		out.WriteString("---\n")
		out.Write(doc)
	}
	return out.Bytes(), nil
}
