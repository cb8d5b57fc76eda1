// Package archtest holds the import rules of the repository as tests: which
// package may know which. docs/architecture.md gives the reasons.
package archtest

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/isthmus-mesh/isthmus"

// pkg is what `go list -json` says of one package, as far as the rules ask.
type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

// mayImport lists, for each top directory, the directories of ours that its
// packages may import directly. A directory may always import itself, version and
// internal. What is absent here may import anything (cmd and test).
var mayImport = map[string][]string{
	"api":             {},
	"model":           {},
	"kube":            {"api", "model", "compile"},
	"kube/clusters":   {"kube", "model"},
	"kube/clusterset": {"kube", "model"},
	"compile":         {"api", "model"},
	"xds":             {},
	"xds/resources":   {"model", "identity", "xds", "xds/serve"},
	"xds/serve":       {"identity", "xds"},
	"xds/fetch":       {"identity", "xds"},
	"identity":        {},
	"ca":              {"identity"},
	"proxy":           {"xds", "xds/fetch", "identity"},
	"discovery":       {"api", "ca", "compile", "identity", "inject", "kube", "kube/clusters", "kube/clusterset", "model", "xds", "xds/resources", "xds/serve"},

	// Within the data plane, from below: what decides about a request knows no
	// engine, no connection and no metrics; the engines know nothing of ours, nor each other; listeners know no HTTP.
	"proxy/agent":      {"xds", "xds/fetch", "identity", "proxy/dns"},
	"proxy/redirect":   {},
	"proxy/dns":        {"xds"},
	"proxy/config":     {"xds"},
	"proxy/outcome":    {},
	"proxy/http1":      {},
	"proxy/http2":      {},
	"proxy/duplex":     {"proxy/mtls"},
	"proxy/downstream": {"proxy/config", "proxy/outcome"},
	"proxy/mtls":       {"proxy/config", "xds"},
	"proxy/upstream":   {"proxy/config", "proxy/mtls"},
	"proxy/routes":     {"proxy/config", "proxy/outcome", "proxy/upstream"},
	"proxy/access":     {"proxy/config"},
	"proxy/jwt":        {"proxy/config"},
	"proxy/exchange":   {"proxy/access", "proxy/config", "proxy/outcome", "proxy/routes", "proxy/upstream"},
	"proxy/telemetry":  {"proxy/access", "proxy/config", "proxy/downstream", "proxy/mtls", "proxy/outcome", "proxy/upstream"},
	"proxy/listen":     {"proxy/access", "proxy/config", "proxy/downstream", "proxy/duplex", "proxy/mtls", "proxy/outcome", "proxy/upstream", "xds"},
	"proxy/httpproxy": {"proxy/access", "proxy/config", "proxy/downstream", "proxy/duplex", "proxy/exchange", "proxy/http1", "proxy/http2", "proxy/jwt",
		"proxy/mtls", "proxy/outcome", "proxy/routes", "proxy/telemetry", "proxy/upstream", "xds"},

	"dns":      {"api"},
	"inject":   {"api", "identity"},
	"install":  {"api", "dns", "charts"},
	"operator": {"api", "install", "kube"},
	"charts":   {},
	"internal": {},
	"version":  {},
}

// clientGo are the only directories that may link k8s.io/client-go.
var clientGo = []string{"cmd/isthmus", "discovery", "kube", "install", "operator", "ca", "dns", "inject", "internal/portforward", "test"}

// heavy is what the data plane must never link: it is paid for in every pod.
var heavy = []string{"k8s.io/", "istio.io/client-go", "helm.sh/", "github.com/coredns/", "sigs.k8s.io/"}

func TestDirectories(t *testing.T) {
	for _, p := range list(t) {
		from := directory(p.ImportPath)
		allowed, ruled := mayImport[from]
		if !ruled {
			continue
		}
		for _, imp := range p.Imports {
			to := directory(imp)
			below := strings.HasPrefix(to, from+"/") // a package puts together what lies under it
			if to == "" || to == from || below || to == "version" || to == "internal" || contains(allowed, to) {
				continue
			}
			t.Errorf("%s imports %s: %s may import only %v", p.ImportPath, imp, from, allowed)
		}
	}
}

// TestProductLinksNoTests: what is installed has nothing of the rigs in it.
func TestProductLinksNoTests(t *testing.T) {
	for _, p := range list(t) {
		if !under(p.ImportPath, []string{"cmd"}) {
			continue
		}
		for _, dep := range p.Deps {
			if under(dep, []string{"test", "bench"}) {
				t.Errorf("%s links %s", p.ImportPath, dep)
			}
		}
	}
}

// TestExchangeIsPure: what decides about a request is stepped from outside.
func TestExchangeIsPure(t *testing.T) {
	for _, p := range list(t) {
		if p.ImportPath != module+"/proxy/exchange" {
			continue
		}
		for _, imp := range p.Imports {
			switch imp {
			case "net", "sync", "sync/atomic", "context", "os", "io", "log/slog":
				t.Errorf("%s imports %s: it has no sockets, goroutines or clock", p.ImportPath, imp)
			}
		}
	}
}

func TestClientGo(t *testing.T) {
	for _, p := range list(t) {
		for _, imp := range p.Imports {
			if strings.HasPrefix(imp, "k8s.io/client-go") && !under(p.ImportPath, clientGo) {
				t.Errorf("%s imports %s: only %v may talk to a Kubernetes API", p.ImportPath, imp, clientGo)
			}
		}
	}
}

func TestDataPlaneStaysSmall(t *testing.T) {
	for _, p := range list(t) {
		if p.ImportPath != module+"/cmd/isthmus-proxy" {
			continue
		}
		for _, dep := range p.Deps {
			for _, h := range heavy {
				if strings.HasPrefix(dep, h) {
					t.Errorf("isthmus-proxy links %s", dep)
				}
			}
		}
	}
}

// TestMeasuredDiscoveryStaysSmall: the memory of bench's discovery is one of the
// figures, and is to be that of the control plane alone.
func TestMeasuredDiscoveryStaysSmall(t *testing.T) {
	for _, p := range list(t) {
		if p.ImportPath != module+"/bench/discovery" {
			continue
		}
		for _, dep := range p.Deps {
			for _, h := range heavy {
				if strings.HasPrefix(dep, h) {
					t.Errorf("bench/discovery links %s", dep)
				}
			}
		}
	}
}

// directory maps an import path to the rule that governs it: the longest
// entry of mayImport that it lies under, "" for what is not ours or not ruled.
func directory(path string) string {
	rel, ours := strings.CutPrefix(path, module+"/")
	if !ours {
		return ""
	}
	best := strings.SplitN(rel, "/", 2)[0]
	for dir := range mayImport {
		if (rel == dir || strings.HasPrefix(rel, dir+"/")) && len(dir) > len(best) {
			best = dir
		}
	}
	return best
}

func under(path string, dirs []string) bool {
	for _, d := range dirs {
		if path == module+"/"+d || strings.HasPrefix(path, module+"/"+d+"/") {
			return true
		}
	}
	return false
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", module+"/...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
	if len(pkgs) == 0 {
		t.Fatal("go list found no packages")
	}
	return pkgs
}
