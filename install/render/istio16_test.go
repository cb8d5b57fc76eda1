package render

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/install/values"
)

// profileKey is one line of a list of keys.
type profileKey struct {
	path           string
	value, another any
	hasAnother     bool
	verdict        string
}

// readKeys reads PATH VALUE VERDICT [=> ANOTHER], values in JSON.
func readKeys(t *testing.T, file string) []profileKey {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	var out []profileKey
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		path, rest, _ := strings.Cut(line, " ")
		k := profileKey{path: path}
		dec := json.NewDecoder(strings.NewReader(rest))
		if err := dec.Decode(&k.value); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		rest = strings.TrimSpace(rest[dec.InputOffset():])
		k.verdict, rest, _ = strings.Cut(rest, " ")
		if another, ok := strings.CutPrefix(rest, "=> "); ok {
			k.hasAnother = true
			if err := json.Unmarshal([]byte(another), &k.another); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
		}
		out = append(out, k)
	}
	return out
}

// leaves counts the scalars and empty collections of a value.
func leaves(v any) int {
	n := 0
	switch v := v.(type) {
	case map[string]any:
		for _, e := range v {
			n += leaves(e)
		}
	case []any:
		for _, e := range v {
			n += leaves(e)
		}
	}
	return max(n, 1)
}

// document is an IstioOperator with one key. NAME in brackets after a key
// selects an element of a list.
func document(t *testing.T, path string, value any) []byte {
	t.Helper()
	keys := strings.Split(path, ".")
	for i := len(keys) - 1; i >= 0; i-- {
		key, name, listed := strings.Cut(strings.TrimSuffix(keys[i], "]"), "[")
		if listed {
			element, _ := value.(map[string]any)
			element["name"] = name
			value = []any{element}
		}
		value = map[string]any{key: value}
	}
	doc, err := yaml.Marshal(map[string]any{"apiVersion": "install.istio.io/v1alpha1", "kind": "IstioOperator", "spec": value})
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// manifest renders an installation with one key set; the egress gateway and the
// older proxy features are in it, so that their keys can act.
func manifest(t *testing.T, path string, value any) (string, error) {
	t.Helper()
	in := values.Input{Files: []values.File{{Name: "key", Data: document(t, path, value)}}, Hub: "h", Tag: "t"}
	if strings.HasPrefix(path, "values.gateways.istio-egressgateway") {
		in.Sets = []string{"components.egressGateways[name:istio-egressgateway].enabled=true"}
	}
	if strings.HasSuffix(path, "pilot.replicaCount") {
		in.Sets = []string{"values.pilot.autoscaleEnabled=false"}
	}
	c, err := values.Resolve(in)
	if err != nil {
		return "", err
	}
	objs, err := Render(c, chartFS(t))
	if err != nil {
		return "", err
	}
	text, err := YAML(objs)
	return string(text), err
}

// TestIstioKeys: every key of Istio's own default profile, and those of its later
// files, acts, is so anyway, or is refused with a reason. None is unknown, none is
// passed over.
func TestIstioKeys(t *testing.T) {
	for file, want := range map[string]int{"istio-1.6-default.txt": 389, "istio-later.txt": 51} {
		t.Run(file, func(t *testing.T) {
			count, all := map[string]int{}, 0
			for _, k := range readKeys(t, file) {
				t.Run(k.path, k.check)
				count[k.verdict] += leaves(k.value)
				all += leaves(k.value)
			}
			t.Logf("%d keys: %v", all, count)
			if all != want {
				t.Errorf("%d keys, want %d", all, want)
			}
		})
	}
}

// check holds the key to its verdict.
func (k profileKey) check(t *testing.T) {
	got, err := manifest(t, k.path, k.value)
	if k.verdict == "refused" {
		mustRefuse(t, k.path, k.value, err)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if !k.hasAnother {
		return
	}
	other, err := manifest(t, k.path, k.another)
	switch {
	case k.verdict == "so" || k.verdict == "moot":
		mustRefuse(t, k.path, k.another, err)
	case k.verdict != "acts":
		t.Fatalf("no such verdict: %q", k.verdict)
	case err != nil:
		t.Fatal(err)
	case got == other:
		t.Errorf("%v and %v give the same installation", k.value, k.another)
	}
}

func mustRefuse(t *testing.T, path string, value any, err error) {
	t.Helper()
	if err == nil {
		t.Errorf("%v is accepted", value)
		return
	}
	text := err.Error()
	last := path[strings.LastIndex(path, ".")+1:]
	told := strings.Contains(text, "refused: ") || strings.Contains(text, "is not one of") ||
		strings.HasSuffix(path, ".name") || strings.HasSuffix(path, ".namespace")
	if !told || !strings.Contains(text, strings.Split(last, "[")[0]) && !strings.Contains(text, fmt.Sprint(strings.Split(path, ".")[1])) {
		t.Errorf("refused without a reason: %v", err)
	}
}
