package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/ca"
)

// xca runs `x ca` with arguments in the current directory.
func xca(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c := newXCACommand()
	c.SilenceUsage, c.SilenceErrors = true, true
	c.SetOut(&out)
	c.SetErr(&out)
	c.SetArgs(args)
	err := c.Execute()
	return out.String(), err
}

func mustXCA(t *testing.T, args ...string) string {
	t.Helper()
	out, err := xca(t, args...)
	if err != nil {
		t.Fatalf("x ca %v: %v", args, err)
	}
	return out
}

// material reads the four files as discovery would.
func material(t *testing.T, dir string) (*ca.Material, error) {
	t.Helper()
	files := map[string][]byte{}
	for _, f := range []string{ca.FileCert, ca.FileKey, ca.FileRoot, ca.FileChain} {
		data, err := os.ReadFile(filepath.Join(dir, f))
		if err != nil {
			t.Fatal(err)
		}
		files[f] = data
	}
	return ca.ParseMaterial(files, time.Now())
}

func TestXCATwoClustersShareARoot(t *testing.T) {
	t.Chdir(t.TempDir())
	if _, err := xca(t, "create-intermediate", "--cluster", "cluster-1"); err == nil || !strings.Contains(err.Error(), "create-root --out samples/certs") {
		t.Errorf("without a root: %v", err)
	}
	mustXCA(t, "create-root")
	out := mustXCA(t, "create-intermediate", "--cluster", "cluster-1", "--out", "samples/certs")
	if want := "wrote samples/certs/ca-cert.pem\nwrote samples/certs/ca-key.pem\nwrote samples/certs/cert-chain.pem\nwrote samples/certs/root-cert.pem\n"; out != want {
		t.Errorf("prints %q", out)
	}
	mustXCA(t, "create-intermediate", "--cluster", "cluster-2", "--out", "two", "--root-dir", "samples/certs")
	one, err := material(t, "samples/certs")
	if err != nil {
		t.Fatal(err)
	}
	two, err := material(t, "two")
	if err != nil {
		t.Fatal(err)
	}
	if !one.Root.Equal(two.Root) || one.Cert.Equal(two.Cert) || one.Cert.Subject.Locality[0] != "cluster-1" {
		t.Errorf("roots or signing certificates are wrong: %s, %s", one.Cert.Subject, two.Cert.Subject)
	}
	for _, key := range []string{"samples/certs/ca-key.pem", "samples/certs/root-key.pem", "two/ca-key.pem"} {
		info, err := os.Stat(key)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", key, info.Mode())
		}
	}
	if _, err := os.Stat("two/root-key.pem"); !os.IsNotExist(err) {
		t.Errorf("the root's key lies in two: %v", err)
	}
}

func TestXCADoesNotOverwrite(t *testing.T) {
	t.Chdir(t.TempDir())
	mustXCA(t, "create-root")
	before, err := os.ReadFile("samples/certs/root-cert.pem")
	if err != nil {
		t.Fatal(err)
	}
	_, err = xca(t, "create-root")
	if err == nil || !strings.Contains(err.Error(), "samples/certs/root-cert.pem") || !strings.Contains(err.Error(), "--force") {
		t.Errorf("second root: %v", err)
	}
	if after, _ := os.ReadFile("samples/certs/root-cert.pem"); !bytes.Equal(before, after) {
		t.Error("the root was overwritten")
	}
	mustXCA(t, "create-root", "--force")
	if after, _ := os.ReadFile("samples/certs/root-cert.pem"); bytes.Equal(before, after) {
		t.Error("--force did not overwrite")
	}
	for _, args := range [][]string{
		{"create-intermediate"}, {"create-intermediate", "--cluster", " "}, {"create-root", "--ttl", "-1h", "--out", "x"}, {"create-root", "extra"},
	} {
		if _, err := xca(t, args...); err == nil {
			t.Errorf("x ca %v has no error", args)
		}
	}
}
