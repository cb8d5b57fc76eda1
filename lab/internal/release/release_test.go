package release

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
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

func TestMeterCountsPackagesAndKeepsTheTail(t *testing.T) {
	var out bytes.Buffer
	show := newDisplay(&out, "x v1", "compiling")
	m := &meter{display: show, total: 10}
	for _, part := range []string{"example.org/a\nexample.", "org/b\ngo: downloading c\n# example.org/d\n", "main.go:3: oops\n"} {
		if _, err := m.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	show.end("compiled")
	if m.count != 2 {
		t.Errorf("counted %d packages, want 2", m.count)
	}
	if !strings.Contains(m.tail(), "main.go:3: oops") {
		t.Errorf("the tail lacks the error: %q", m.tail())
	}
	if want := "x v1: compiling (0s)\nx v1: compiled in 0s\n"; out.String() != want {
		t.Errorf("shown:\n%s\nwant:\n%s", &out, want)
	}
}

func TestWhereReleasesLie(t *testing.T) {
	all, err := Cluster("v1.37.2")
	if err != nil {
		t.Fatal(err)
	}
	arch := runtime.GOARCH
	mirror, err := NewDownloads(nil, "https://mirror.example/lab/", "")
	if err != nil {
		t.Fatal(err)
	}
	var direct, mirrored []string
	for _, p := range all {
		file := p.Official.Files[0]
		direct = append(direct, (&Downloads{}).url(p.Official, file.Path).String(), (&Downloads{}).url(p.Official, file.Checksums).String())
		mirrored = append(mirrored, mirror.url(p.Official, file.Path).String())
	}
	const github = "https://github.com/"
	for i, want := range []string{
		github + "etcd-io/etcd/releases/download/v3.7.0/etcd-v3.7.0-linux-" + arch + ".tar.gz",
		github + "etcd-io/etcd/releases/download/v3.7.0/SHA256SUMS",
		github + "containerd/containerd/releases/download/v2.4.2/containerd-static-2.4.2-linux-" + arch + ".tar.gz",
		github + "containerd/containerd/releases/download/v2.4.2/containerd-static-2.4.2-linux-" + arch + ".tar.gz.sha256sum",
		github + "coredns/coredns/releases/download/v1.15.0/coredns_1.15.0_linux_" + arch + ".tgz",
		github + "coredns/coredns/releases/download/v1.15.0/coredns_1.15.0_linux_" + arch + ".tgz.sha256",
		"https://dl.k8s.io/release/v1.37.2/bin/linux/" + arch + "/kube-apiserver",
		"https://dl.k8s.io/release/v1.37.2/bin/linux/" + arch + "/kube-apiserver.sha256",
	} {
		if direct[i] != want {
			t.Errorf("%s\nwant %s", direct[i], want)
		}
	}
	for i, want := range []string{
		"https://mirror.example/lab/etcd/v3.7.0/etcd-v3.7.0-linux-" + arch + ".tar.gz",
		"https://mirror.example/lab/containerd/v2.4.2/containerd-static-2.4.2-linux-" + arch + ".tar.gz",
		"https://mirror.example/lab/coredns/v1.15.0/coredns_1.15.0_linux_" + arch + ".tgz",
		"https://mirror.example/lab/kubernetes/v1.37.2/bin/linux/" + arch + "/kube-apiserver",
	} {
		if mirrored[i] != want {
			t.Errorf("%s\nwant %s", mirrored[i], want)
		}
	}
}
