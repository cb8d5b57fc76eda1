package archtest

import (
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the list of packages into docs/architecture.md")

const root = "../.."

// quoted finds what stands between backquotes.
var quoted = regexp.MustCompile("`([^`\n]+)`")

// TestPathsInDocs: the pages for the next person name no file or directory that
// does not exist.
func TestPathsInDocs(t *testing.T) {
	paths := 0
	for _, page := range []string{"docs/architecture.md", "docs/adding.md"} {
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range quoted.FindAllStringSubmatch(string(text), -1) {
			path := m[1]
			top, _, below := strings.Cut(path, "/")
			if info, err := os.Stat(filepath.Join(root, top)); top == "" || !below || err != nil || !info.IsDir() {
				continue // a word, a field, a command, a path on the wire
			}
			paths++
			if _, err := os.Stat(filepath.Join(root, path)); err != nil {
				t.Errorf("%s names %s, which does not exist", page, path)
			}
		}
	}
	if paths < 30 {
		t.Errorf("only %d paths were found in the pages", paths)
	}
}

// TestPackagesAreNamed: docs/architecture.md ends with a list of all packages and
// the first sentence of their comments.
func TestPackagesAreNamed(t *testing.T) {
	const heading = "\n## All packages\n"
	page := filepath.Join(root, "docs/architecture.md")
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}

	var list strings.Builder
	for _, p := range append(documented(t, root), documented(t, filepath.Join(root, "lab"))...) {
		if p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
		path := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		list.WriteString("- `" + path + "`: " + sentence(p.Doc) + "\n")
	}

	before, _, _ := strings.Cut(string(text), heading)
	want := strings.TrimRight(before, "\n") + "\n" + heading + "\n" + list.String()
	if want == string(text) {
		return
	}
	if !*update {
		t.Fatal("the list of packages in docs/architecture.md is not what is there: go test ./test/archtest -update")
	}
	if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

type docPackage struct{ ImportPath, Doc string }

// documented lists the packages of a module with code in them, sorted.
func documented(t *testing.T, dir string) []docPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Doc,GoFiles", "./...")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list in %s: %v", dir, err)
	}
	var all []docPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			docPackage
			GoFiles []string
		}
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(p.GoFiles) > 0 {
			all = append(all, p.docPackage)
		}
	}
	slices.SortFunc(all, func(a, b docPackage) int { return cmp.Compare(a.ImportPath, b.ImportPath) })
	return all
}

// sentence is the synopsis of a package comment without the words that all of
// them begin with.
func sentence(doc string) string {
	for _, prefix := range []string{"Package ", "Command "} {
		doc = strings.TrimPrefix(doc, prefix)
	}
	if _, rest, ok := strings.Cut(doc, " "); ok {
		doc = rest
	}
	return doc
}
