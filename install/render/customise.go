package render

import (
	"encoding/json"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/api/operator"
	"github.com/isthmus-mesh/isthmus/install/values"
)

// customise changes the rendered objects of one component as its k8s settings
// ask. workload is the name of its Deployment and Service. A setting for an
// object that the component does not have is an error: it would have no effect.
func customise(objs []Object, workload string, k operator.KubernetesResources) error {
	e := editor{objs: objs, workload: workload}
	e.pods(k)
	e.deployment(k)
	e.merge("Service", asMap(k.Service), "spec")
	e.merge("Service", stringMap(k.ServiceAnnotations), "metadata", "annotations")
	e.merge("HorizontalPodAutoscaler", asMap(k.HPASpec), "spec")
	e.replace("PodDisruptionBudget", asMap(k.PodDisruptionBudget), "spec")
	for _, o := range k.Overlays {
		e.overlay(o)
	}
	return e.err
}

// editor applies settings one after the other until the first error.
type editor struct {
	objs     []Object
	workload string
	err      error
}

// find returns the object that a setting is about.
func (e *editor) find(kind, name string) *unstructured.Unstructured {
	i := slices.IndexFunc(e.objs, func(o Object) bool { return o.GetKind() == kind && o.GetName() == name })
	if i < 0 {
		if e.err == nil {
			e.err = fmt.Errorf("there is no %s %s to change", kind, name)
		}
		return nil
	}
	return e.objs[i].Unstructured
}

// merge merges a mapping into the one at a path of the workload's object.
// Lists are replaced; the selector and ports that the user does not give stay.
func (e *editor) merge(kind string, with map[string]any, path ...string) {
	if len(with) == 0 || e.err != nil {
		return
	}
	u := e.find(kind, e.workload)
	if u == nil {
		return
	}
	old, _, _ := unstructured.NestedMap(u.Object, path...)
	e.set(u, values.Merged(old, with), path...)
}

// replace puts a mapping in the place of the one at a path, selector aside.
func (e *editor) replace(kind string, with map[string]any, path ...string) {
	if len(with) == 0 || e.err != nil {
		return
	}
	u := e.find(kind, e.workload)
	if u == nil {
		return
	}
	old, _, _ := unstructured.NestedMap(u.Object, path...)
	if _, ok := with["selector"]; !ok && old["selector"] != nil {
		with["selector"] = old["selector"]
	}
	e.set(u, with, path...)
}

func (e *editor) set(u *unstructured.Unstructured, v any, path ...string) {
	if err := unstructured.SetNestedField(u.Object, v, path...); err != nil && e.err == nil {
		e.err = fmt.Errorf("%s %s: %w", u.GetKind(), u.GetName(), err)
	}
}

// deployment applies what concerns the Deployment itself.
func (e *editor) deployment(k operator.KubernetesResources) {
	spec := map[string]any{}
	if k.Strategy != nil {
		spec["strategy"] = asMap(k.Strategy)
		if u := e.findIf("Deployment"); u != nil {
			unstructured.RemoveNestedField(u.Object, "spec", "strategy")
		}
	}
	if k.ReplicaCount != nil {
		// With an autoscaler, its lower bound is what decides.
		if hpa := e.findIf("HorizontalPodAutoscaler"); hpa != nil && k.HPASpec == nil {
			e.set(hpa, int64(*k.ReplicaCount), "spec", "minReplicas")
			if highest, _, _ := unstructured.NestedInt64(hpa.Object, "spec", "maxReplicas"); highest < int64(*k.ReplicaCount) {
				e.set(hpa, int64(*k.ReplicaCount), "spec", "maxReplicas")
			}
		} else if hpa == nil {
			spec["replicas"] = int64(*k.ReplicaCount)
		}
	}
	e.merge("Deployment", spec, "spec")
}

// findIf returns the workload's object of a kind, nil when there is none.
func (e *editor) findIf(kind string) *unstructured.Unstructured {
	for _, o := range e.objs {
		if o.GetKind() == kind && o.GetName() == e.workload {
			return o.Unstructured
		}
	}
	return nil
}

// pods applies what concerns the pod template.
func (e *editor) pods(k operator.KubernetesResources) {
	pod := map[string]any{}
	put := func(key string, v any, given bool) {
		if given {
			pod[key] = v
		}
	}
	put("affinity", asMap(k.Affinity), k.Affinity != nil)
	put("nodeSelector", stringMap(k.NodeSelector), k.NodeSelector != nil)
	put("priorityClassName", k.PriorityClassName, k.PriorityClassName != "")
	put("securityContext", asMap(k.SecurityContext), k.SecurityContext != nil)
	put("tolerations", asList(k.Tolerations), k.Tolerations != nil)
	e.merge("Deployment", pod, "spec", "template", "spec")
	e.merge("Deployment", stringMap(k.PodAnnotations), "spec", "template", "metadata", "annotations")
	e.appendTo(asList(k.Volumes), "spec", "template", "spec", "volumes")
	e.container(k)
}

// container applies what concerns the first container.
func (e *editor) container(k operator.KubernetesResources) {
	c := map[string]any{}
	if k.ImagePullPolicy != "" {
		c["imagePullPolicy"] = k.ImagePullPolicy
	}
	if k.Resources != nil {
		c["resources"] = asMap(k.Resources)
	}
	if k.ReadinessProbe != nil {
		c["readinessProbe"] = asMap(k.ReadinessProbe)
	}
	if len(c) == 0 && k.Env == nil && k.VolumeMounts == nil || e.err != nil {
		return
	}

	u := e.find("Deployment", e.workload)
	if u == nil {
		return
	}
	path := []string{"spec", "template", "spec", "containers"}
	containers, _, _ := unstructured.NestedSlice(u.Object, path...)
	first, _ := containers[0].(map[string]any)

	for key, v := range c {
		if key == "readinessProbe" {
			delete(first, key)
		}
		first = values.Merged(first, map[string]any{key: v})
	}

	first["env"] = byName(first["env"], asList(k.Env))
	first["volumeMounts"] = byName(first["volumeMounts"], asList(k.VolumeMounts))
	for _, key := range []string{"env", "volumeMounts"} {
		if l, _ := first[key].([]any); len(l) == 0 {
			delete(first, key)
		}
	}

	containers[0] = first
	e.set(u, containers, path...)
}

func (e *editor) appendTo(items []any, path ...string) {
	if len(items) == 0 || e.err != nil {
		return
	}
	u := e.find("Deployment", e.workload)
	if u == nil {
		return
	}
	old, _, _ := unstructured.NestedSlice(u.Object, path...)
	e.set(u, byName(old, items), path...)
}

// byName merges two lists of named elements: one of the same name is replaced.
func byName(old any, items []any) []any {
	list, _ := old.([]any)
	list = slices.Clone(list)
	for _, item := range items {
		m, _ := item.(map[string]any)
		at := slices.IndexFunc(list, func(v any) bool {
			o, _ := v.(map[string]any)
			return o["name"] == m["name"]
		})
		if at >= 0 {
			list[at] = item
		} else {
			list = append(list, item)
		}
	}
	return list
}

// asMap returns a typed value in its JSON form, nil for nil.
func asMap(v any) map[string]any {
	m, _ := asJSON(v).(map[string]any)
	return m
}

func asList(v any) []any {
	l, _ := asJSON(v).([]any)
	return l
}

func asJSON(v any) any {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // API types always encode
	}
	wrapped := &unstructured.Unstructured{}
	// Decoded the way unstructured objects are, so that numbers are int64.
	if err := wrapped.UnmarshalJSON([]byte(`{"apiVersion":"v1","kind":"X","v":` + string(raw) + `}`)); err != nil {
		panic(err)
	}
	return wrapped.Object["v"]
}

func stringMap(m map[string]string) map[string]any {
	if m == nil {
		return nil
	}
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}
