// Package validate holds files against what the mesh takes, without a cluster:
// configuration objects by the validating webhook's own code, IstioOperators by the
// installer's.
package validate

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/operator"
	"github.com/isthmus-mesh/isthmus/install/values"
)

// Finding is what is said of one object of a file.
type Finding struct {
	File string `json:"file"`
	// Document is the object's place in the file, from 1.
	Document  int    `json:"document"`
	Kind      string `json:"kind,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	// Error is why the object would be refused; it is empty for what would be taken.
	Error string `json:"error,omitempty"`
	// Warnings are what it asks for without effect.
	Warnings []string `json:"warnings,omitempty"`
	// Foreign tells that the object is none of the mesh's: nothing was checked.
	Foreign bool `json:"foreign,omitempty"`
}

// String names the object as people do.
func (f *Finding) String() string {
	where := fmt.Sprintf("%s, document %d", f.File, f.Document)
	if f.Kind == "" {
		return where
	}
	name := f.Name
	if f.Namespace != "" {
		name = f.Namespace + "/" + name
	}
	return fmt.Sprintf("%s: %s %s", where, f.Kind, name)
}

// Read checks the objects of a file, YAML or JSON, of one document or several; those
// of a List one by one. Objects that name no namespace are taken for being in the one
// given. The error is that of reading: what is wrong with an object is in its Finding.
func Read(file string, in io.Reader, namespace string) ([]Finding, error) {
	documents := utilyaml.NewYAMLReader(bufio.NewReader(in))
	var out []Finding
	for number := 0; ; {
		text, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, fmt.Errorf("read %s: %w", file, err)
		}
		if empty(text) {
			continue
		}
		number++

		c := checker{file: file, document: number, namespace: namespace}
		raw, err := yaml.YAMLToJSONStrict(text)
		if err != nil {
			c.add(Finding{Error: "not YAML that Kubernetes takes: " + strings.TrimPrefix(err.Error(), "yaml: ")})
		} else {
			c.object(raw, text)
		}
		out = append(out, c.found...)
	}
}

// empty tells whether a document holds nothing but comments.
func empty(text []byte) bool {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && string(line) != "---" {
			return false
		}
	}
	return true
}

// checker checks what stands in one document.
type checker struct {
	file      string
	document  int
	namespace string
	found     []Finding
}

func (c *checker) add(f Finding) {
	f.File, f.Document = c.file, c.document
	c.found = append(c.found, f)
}

// object checks an object, or the objects of a list. text is the document as it was
// written, for errors that have lines.
func (c *checker) object(raw, text []byte) {
	var head struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        metav1.ObjectMeta `json:"metadata"`
		Items           []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		c.add(Finding{Error: "not an object of Kubernetes: " + err.Error()})
		return
	}
	if head.Kind == "List" {
		for _, item := range head.Items {
			c.object(item, item)
		}
		return
	}

	f := Finding{Kind: head.Kind, Namespace: head.Metadata.Namespace, Name: head.Metadata.Name}
	if f.Name == "" {
		f.Name = head.Metadata.GenerateName
	}
	if f.Kind == operator.Kind {
		c.add(checkOperator(f, c.file, text))
		return
	}
	c.add(checkObject(f, head.APIVersion, raw, c.namespace))
}

// versions are those that the API server serves of the groups whose objects are
// honoured.
var versions = map[string][]string{
	api.GroupNetworking: {"v1", "v1beta1", "v1alpha3"},
	api.GroupSecurity:   {"v1", "v1beta1"},
}

// checkObject asks the webhook, after what the API server would say itself.
func checkObject(f Finding, apiVersion string, raw []byte, namespace string) Finding {
	gv, err := schema.ParseGroupVersion(apiVersion)
	switch {
	case f.Kind == "" || apiVersion == "":
		f.Error = "kind and apiVersion must both be given"
		return f
	case err != nil:
		f.Error = "apiVersion: " + err.Error()
		return f
	}

	served, ours := versions[gv.Group]
	switch {
	case ours && !slices.Contains(served, gv.Version):
		f.Error = fmt.Sprintf("apiVersion: %s has no version %q; set one of %s", gv.Group, gv.Version, strings.Join(served, ", "))
		return f
	case ours && f.Name == "":
		f.Error = "metadata.name: must be given"
		return f
	}

	obj, warnings, err := api.Check(raw, gv.Group, f.Kind, namespace)
	f.Warnings, f.Foreign = warnings, obj == nil && err == nil
	if err != nil {
		f.Error = err.Error()
	}
	return f
}

// checkOperator asks the installer.
func checkOperator(f Finding, file string, text []byte) Finding {
	config, err := values.Resolve(values.Input{Files: []values.File{{Name: file, Data: text}}})
	if err != nil {
		f.Error = strings.TrimPrefix(err.Error(), file+": ")
		return f
	}
	f.Warnings = config.Warnings
	return f
}
