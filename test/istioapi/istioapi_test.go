// Package istioapi keeps docs/istio-api.md as it is in the code: which fields of Istio's
// API the mesh acts on. It fails when the module istio.io/api grows a kind or a field of
// which nobody has said what becomes of it. `go test ./test/istioapi -update` writes the
// page anew.
package istioapi

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/charts"
)

var update = flag.Bool("update", false, "write docs/istio-api.md anew")

const page = "../../docs/istio-api.md"

const head = `# What of Istio's API is honoured

Made from what the code takes: ` + "`go test ./test/istioapi -update`" + ` writes this page, and the test fails when it is stale. ` + "`istioctl x api [KIND]`" + ` lists the same.

An object with a field set that is not honoured is refused when it is applied, by the field's path; of MeshConfig such a field is warned of, at install and in the control plane's log. A field that is not honoured stands for all that is in it; ` + "`[]`" + ` is any element of a list, ` + "`{}`" + ` any key of a map.
`

func TestPageIsCurrent(t *testing.T) {
	var out bytes.Buffer
	out.WriteString(head)
	for _, k := range api.Kinds() {
		writeFields(&out, string(k), api.Fields(k))
	}
	writeFields(&out, "MeshConfig", api.MeshFields())

	out.WriteString("\n## Kinds that are not honoured\n\n| kind | group | |\n|---|---|---|\n")
	for _, k := range api.NotHonouredKinds() {
		fmt.Fprintf(&out, "| %s | %s | %s |\n", k.Kind, k.Group, k.Why())
	}

	if *update {
		if err := os.WriteFile(page, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, out.Bytes()) {
		t.Error("docs/istio-api.md is not what the code takes: go test ./test/istioapi -update")
	}
}

func writeFields(out *bytes.Buffer, kind string, fields []api.Field) {
	yes := 0
	for _, f := range fields {
		if f.Honoured {
			yes++
		}
	}
	fmt.Fprintf(out, "\n## %s\n\n%d of %d.\n\n| field | honoured |\n|---|---|\n", kind, yes, len(fields))
	for _, f := range fields {
		honoured := "yes"
		if !f.Honoured {
			honoured = "no"
		}
		fmt.Fprintf(out, "| `%s` | %s |\n", f.Path, honoured)
	}
}

// TestKindsAreKnown: of every kind that istio.io/api defines it is said whether it is
// honoured.
func TestKindsAreKnown(t *testing.T) {
	crds, err := fs.ReadFile(charts.FS, "base/files/crds.gen.yaml")
	if err != nil {
		t.Fatalf("%v: go generate ./install/... writes it", err)
	}
	var known []string
	for _, k := range api.Kinds() {
		known = append(known, string(k))
	}
	for _, k := range api.NotHonouredKinds() {
		known = append(known, k.Kind)
	}

	defined := regexp.MustCompile(`"kind":"(\w+)","listKind"`).FindAllSubmatch(crds, -1)
	if len(defined) == 0 {
		t.Fatal("no CRD was found")
	}
	for _, m := range defined {
		if kind := string(m[1]); !slices.Contains(known, kind) {
			t.Errorf("of %s nobody says what becomes of it: api/object.go, or api/nothonoured.go", kind)
		}
	}
}
