package release

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const upstream = `module k8s.io/kubernetes

go 1.26.0

godebug default=go1.26

require (
	example.org/fork v1.0.0
	k8s.io/api v0.0.0
)

replace (
	example.org/fork => example.org/ours v1.2.3
	k8s.io/api => ./staging/src/k8s.io/api
)
`

func TestGoModPublishesRelativeReplacements(t *testing.T) {
	k, err := Kubernetes("v1.37.2")
	if err != nil {
		t.Fatal(err)
	}
	got, err := goMod(k, []byte(upstream))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"go 1.26.0\n",
		"godebug default=go1.26\n",
		"require k8s.io/kubernetes v1.37.2\n",
		"example.org/fork => example.org/ours v1.2.3\n",
		"k8s.io/api => k8s.io/api v0.37.2\n",
	} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestGoModWithoutStagingDropsRelativeReplacements(t *testing.T) {
	got, err := goMod(Containerd(), []byte("module m\n\ngo 1.26.0\n\nreplace m/api => ./api\n"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(got), "replace") {
		t.Errorf("a replacement that leads nowhere is kept:\n%s", got)
	}
}

func TestKubernetesRefusesOddVersions(t *testing.T) {
	for _, v := range []string{"", "1.37.2", "v1.37", "v2.0.0", "v1.37.2-rc.1"} {
		if _, err := Kubernetes(v); err == nil {
			t.Errorf("version %q is accepted", v)
		}
	}
}

func TestCompleteWantsEveryBinary(t *testing.T) {
	dir := t.TempDir()
	p := Containerd()
	for i, name := range p.Binaries() {
		if Complete(dir, p) {
			t.Fatalf("complete with %d of %d binaries", i, len(p.Binaries()))
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if !Complete(dir, p) || Complete("", p) {
		t.Fatal("a full directory is incomplete, or none is complete")
	}
	if got := Etcd().Binaries(); len(got) != 1 || got[0] != "etcd" {
		t.Fatalf("etcd's binaries are %v", got)
	}
}

func TestOwnVersionFollowsTheSource(t *testing.T) {
	a, b := Own("x", []byte("package main")), Own("x", []byte("package main\n"))
	if a.Version == b.Version {
		t.Fatal("two sources have one version")
	}
}

func TestEnsureBuildsOnceAndReportsFailure(t *testing.T) {
	var out bytes.Buffer
	b := &Builder{Cache: t.TempDir(), Environ: os.Environ(), Out: &out}
	good := Own("good", []byte("package main\n\nfunc main() {}\n"))
	dir, err := b.Ensure(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	if !Complete(dir, good) {
		t.Fatalf("nothing in %s", dir)
	}
	out.Reset()
	if _, err := b.Ensure(t.Context(), good); err != nil || out.Len() != 0 {
		t.Fatalf("built again: %v, %s", err, &out)
	}
	bad := Own("bad", []byte("package main\n\nfunc main() { undefined() }\n"))
	if _, err := b.Ensure(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "undefined") {
		t.Fatalf("a broken program gives %v, want the compiler's words", err)
	}
	left, err := filepath.Glob(filepath.Join(b.Cache, ".build-*"))
	if err != nil || len(left) != 0 || Complete(bad.Dir(b.Cache), bad) {
		t.Fatalf("a failed build leaves %v", left)
	}
}

func TestMeterCountsPackagesAndKeepsTheTail(t *testing.T) {
	var out bytes.Buffer
	m := newMeter(&out, "x v1", 10)
	for _, part := range []string{"example.org/a\nexample.", "org/b\ngo: downloading c\n# example.org/d\n", "main.go:3: oops\n"} {
		if _, err := m.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if m.count != 2 {
		t.Errorf("counted %d packages, want 2", m.count)
	}
	if !strings.Contains(m.tail(), "main.go:3: oops") {
		t.Errorf("the tail lacks the error: %q", m.tail())
	}
}
