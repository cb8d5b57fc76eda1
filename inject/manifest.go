package inject

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// Outcome is what became of one object of a manifest.
type Outcome struct {
	Kind, Namespace, Name string
	Injected              bool
	Reason                string
	Warnings              []string
}

// Manifest copies a file of Kubernetes objects, YAML or JSON, and puts the
// proxy into each pod and pod template on the way. What holds no pods, and what
// opts out, is copied byte for byte. The namespace is that of objects that name
// none. The first object that cannot be injected ends the copy with an error.
func Manifest(in io.Reader, out io.Writer, namespace string, s *Settings) ([]Outcome, error) {
	text, err := io.ReadAll(in)
	if err != nil {
		return nil, fmt.Errorf("read the manifest: %w", err)
	}

	var outcomes []Outcome
	var result bytes.Buffer
	for i, doc := range splitDocuments(text) {
		if i > 0 {
			result.WriteString("---\n")
		}
		changed, got, err := injectDocument(doc, namespace, s)
		if err != nil {
			return outcomes, fmt.Errorf("document %d: %w", i+1, err)
		}
		outcomes = append(outcomes, got...)
		result.Write(changed)
		if len(changed) > 0 && changed[len(changed)-1] != '\n' {
			result.WriteByte('\n')
		}
	}

	if _, err := out.Write(result.Bytes()); err != nil {
		return outcomes, fmt.Errorf("write the manifest: %w", err)
	}
	return outcomes, nil
}

// splitDocuments cuts YAML at its document markers, which stand at the start
// of a line.
func splitDocuments(text []byte) [][]byte {
	var docs [][]byte
	var current []byte
	for _, line := range bytes.SplitAfter(text, []byte("\n")) {
		rest, marker := bytes.CutPrefix(line, []byte("---"))
		if marker && (len(bytes.TrimSpace(rest)) == 0 || rest[0] == ' ' || rest[0] == '\t') {
			if len(bytes.TrimSpace(current)) > 0 {
				docs = append(docs, current)
			}
			current = nil
			if b := bytes.TrimSpace(rest); len(b) > 0 && b[0] != '#' {
				current = append(current, rest...)
			}
			continue
		}
		current = append(current, line...)
	}

	if len(bytes.TrimSpace(current)) > 0 {
		docs = append(docs, current)
	}
	return docs
}

func injectDocument(doc []byte, namespace string, s *Settings) ([]byte, []Outcome, error) {
	js, err := yaml.YAMLToJSON(doc)
	if err != nil {
		return nil, nil, fmt.Errorf("it is not YAML: %w", err)
	}

	var object any
	dec := json.NewDecoder(bytes.NewReader(js))
	dec.UseNumber()
	if err := dec.Decode(&object); err != nil {
		return nil, nil, fmt.Errorf("it is not YAML: %w", err)
	}

	m, ok := object.(map[string]any)
	if !ok {
		return doc, nil, nil
	}

	outcomes, err := injectObject(m, namespace, s)
	if err != nil {
		return nil, outcomes, err
	}

	for _, o := range outcomes {
		if o.Injected {
			js, err := json.Marshal(m)
			if err != nil {
				return nil, outcomes, fmt.Errorf("encode the injected object: %w", err)
			}
			out, err := yaml.JSONToYAML(js)
			return out, outcomes, err
		}
	}
	return doc, outcomes, nil
}

// injectObject changes the object in place.
func injectObject(object map[string]any, namespace string, s *Settings) ([]Outcome, error) {
	kind, _ := object["kind"].(string)
	if items, isList := object["items"].([]any); isList {
		var outcomes []Outcome
		for i, item := range items {
			m, ok := item.(map[string]any)
			if !ok {
				continue
			}
			got, err := injectObject(m, namespace, s)
			outcomes = append(outcomes, got...)
			if err != nil {
				return outcomes, fmt.Errorf("items[%d]: %w", i, err)
			}
		}
		return outcomes, nil
	}

	path, ok := templatePath(kind)
	if !ok {
		return nil, nil
	}

	meta, _ := object["metadata"].(map[string]any)
	o := Outcome{Kind: kind, Namespace: namespace}
	o.Name, _ = meta["name"].(string)
	if ns, _ := meta["namespace"].(string); ns != "" {
		o.Namespace = ns
	}

	parent, template := object, object
	for _, key := range path {
		parent = template
		if template, ok = parent[key].(map[string]any); !ok {
			return nil, fmt.Errorf("%s %s: it has no %s", kind, o.Name, key)
		}
	}

	apiVersion, _ := object["apiVersion"].(string)
	injected, err := injectTemplate(template, &o, apiVersion, s)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", kind, o.Name, err)
	}

	switch {
	case injected == nil:
	case len(path) == 0:
		for k, v := range injected {
			object[k] = v
		}
	default:
		parent[path[len(path)-1]] = injected
	}
	return []Outcome{o}, nil
}

// templatePath tells where a kind keeps its pod template.
func templatePath(kind string) ([]string, bool) {
	switch kind {
	case "Pod":
		return nil, true
	case "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job":
		return []string{"spec", "template"}, true
	case "CronJob":
		return []string{"spec", "jobTemplate", "spec", "template"}, true
	}
	return nil, false
}

// injectTemplate returns the injected template, nil when it is left alone.
func injectTemplate(template map[string]any, o *Outcome, apiVersion string, s *Settings) (map[string]any, error) {
	if _, ok := template["metadata"].(map[string]any); !ok {
		template["metadata"] = map[string]any{}
	}
	raw, err := json.Marshal(template)
	if err != nil {
		return nil, fmt.Errorf("encode the pod template: %w", err)
	}

	var pod corev1.Pod
	if err := json.Unmarshal(raw, &pod); err != nil {
		return nil, fmt.Errorf("the pod template does not decode: %w", err)
	}
	if o.Kind != "Pod" {
		pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: apiVersion, Kind: o.Kind, Name: o.Name, Controller: ptr(true)}}
	}

	d, err := Decide(&pod, o.Namespace, nil, s)
	if err != nil {
		return nil, err
	}

	o.Reason = d.Reason
	if !d.Inject {
		return nil, nil
	}

	ops, warnings, err := Patch(&pod, o.Namespace, s)
	if err != nil {
		return nil, err
	}

	patch, err := jsonpatch.DecodePatch(ops)
	if err != nil {
		return nil, fmt.Errorf("decode the patch: %w", err)
	}

	raw, err = patch.Apply(raw)
	if err != nil {
		return nil, fmt.Errorf("apply the patch: %w", err)
	}

	var injected map[string]any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&injected); err != nil {
		return nil, fmt.Errorf("decode the injected template: %w", err)
	}
	o.Injected, o.Warnings = true, warnings
	return injected, nil
}
