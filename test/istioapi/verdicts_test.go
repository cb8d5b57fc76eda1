package istioapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/api"
)

// document is an object of Istio's API, and what is said of it.
type document struct {
	kind, name string
	raw        []byte // JSON, in one line
	ours       error
	istio      string // what Istio has against it
}

// documents are those of a directory: a file of each kind, with a spec for each name.
func documents(t *testing.T, dir string) []document {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var out []document
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var list struct {
			APIVersion string                     `json:"apiVersion"`
			Kind       string                     `json:"kind"`
			Documents  map[string]json.RawMessage `json:"documents"`
		}
		if err := yaml.UnmarshalStrict(text, &list); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, name := range slices.Sorted(maps.Keys(list.Documents)) {
			raw, err := json.Marshal(map[string]any{
				"apiVersion": list.APIVersion, "kind": list.Kind,
				"metadata": map[string]any{"namespace": "prod", "name": "a"},
				"spec":     list.Documents[name],
			})
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, document{kind: list.Kind, name: name, raw: raw})
		}
	}
	return out
}

// askIstio has the program of test/verdicts judge the documents.
func askIstio(t *testing.T, program string, all []document) {
	t.Helper()
	var in bytes.Buffer
	for i := range all {
		in.Write(all[i].raw)
		in.WriteByte('\n')
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Stdin, cmd.Stderr = &in, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var verdicts []string
	for line := range strings.Lines(string(out)) {
		if said, is := strings.CutPrefix(line, "verdict:"); is {
			verdicts = append(verdicts, strings.TrimSpace(said))
		}
	}
	if len(verdicts) != len(all) {
		t.Fatalf("%d verdicts on %d documents", len(verdicts), len(all))
	}
	for i := range all {
		all[i].istio = verdicts[i]
	}
}

// tally counts verdicts on the documents of a kind.
type tally struct{ accepted, acceptedToo, refused, refusedToo int }

func (c *tally) add(d *document) {
	if d.istio == "" {
		c.accepted++
		if d.ours == nil {
			c.acceptedToo++
		}
		return
	}
	c.refused++
	if d.ours != nil {
		c.refusedToo++
	}
}

// extensions are kinds that extend Envoy itself, which are refused with a reason, and
// counted apart.
var extensions = []string{"EnvoyFilter", "WasmPlugin"}

// TestVerdicts holds what is taken and refused here against Istio's own validator
// (`make verdicts`; ISTIO_VERDICTS names the program). What it accepts is to be accepted,
// 97 % at least; what it refuses is to be refused.
func TestVerdicts(t *testing.T) {
	program := os.Getenv("ISTIO_VERDICTS")
	if program == "" {
		t.Skip("ISTIO_VERDICTS is not set: make verdicts")
	}
	all := documents(t, "../verdicts/documents")
	askIstio(t, program, all)

	byKind, sum := map[string]*tally{}, tally{}
	for i := range all {
		d := &all[i]
		_, d.ours = api.Decode(d.raw)
		if byKind[d.kind] == nil {
			byKind[d.kind] = &tally{}
		}
		byKind[d.kind].add(d)
		if !slices.Contains(extensions, d.kind) {
			sum.add(d)
		}

		switch {
		case d.istio == "" && d.ours != nil:
			t.Logf("refused here alone: %s %q: %v", d.kind, d.name, d.ours)
		case d.istio != "" && d.ours == nil:
			t.Logf("accepted here alone: %s %q: Istio says: %s", d.kind, d.name, d.istio)
		}
	}

	var table strings.Builder
	row := func(name string, c *tally) {
		fmt.Fprintf(&table, "| %s | %d | %d | %d | %d |\n", name, c.accepted, c.acceptedToo, c.refused, c.refusedToo)
	}
	for _, kind := range slices.Sorted(maps.Keys(byKind)) {
		row(kind, byKind[kind])
	}
	row("all but "+strings.Join(extensions, " and "), &sum)
	t.Logf("%d documents\n\n| kind | Istio accepts | so do we | Istio refuses | so do we |\n|---|---|---|---|---|\n%s", len(all), table.String())

	if 100*sum.acceptedToo < 97*sum.accepted {
		t.Errorf("%d of %d documents that Istio accepts are accepted, want 97 %%", sum.acceptedToo, sum.accepted)
	}
	if sum.refusedToo < sum.refused {
		t.Errorf("%d of %d documents that Istio refuses are refused, want all", sum.refusedToo, sum.refused)
	}
}
