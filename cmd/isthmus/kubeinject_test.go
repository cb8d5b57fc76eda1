package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/api"
)

// kubeInjected runs kube-inject with input on standard input.
func kubeInjected(t *testing.T, input string, args ...string) (out, said string, err error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	c := newKubeInjectCommand(&kubeFlags{istioNamespace: api.DefaultNamespace, kubeconfig: filepath.Join(t.TempDir(), "none")})
	c.SilenceUsage, c.SilenceErrors = true, true
	c.SetIn(strings.NewReader(input))
	c.SetOut(&stdout)
	c.SetErr(&stderr)
	c.SetArgs(args)
	err = c.Execute()
	return stdout.String(), stderr.String(), err
}

func TestKubeInjectOffline(t *testing.T) {
	pod := "kind: Pod\napiVersion: v1\nmetadata: {name: p}\nspec: {containers: [{name: a, image: i}]}\n"
	out, said, err := kubeInjected(t, pod, "-f", "-", "--hub", "example.org/mesh", "--tag", "v9")
	if err != nil || said != "" {
		t.Fatalf("%v, says %q", err, said)
	}
	for _, want := range []string{"image: example.org/mesh/proxyv2:v9", "name: istio-init", "restartPolicy: Always"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	out, _, err = kubeInjected(t, pod, "-f", "-", "--hub", "h", "--tag", "t", "--native-sidecar=false")
	if err != nil || strings.Contains(out, "restartPolicy: Always") {
		t.Errorf("%v: a native sidecar for a cluster that does not know it:\n%s", err, out)
	}
	optedOut := strings.Replace(pod, "{name: p}", "{name: p, annotations: {sidecar.istio.io/inject: \"false\"}}", 1)
	out, said, err = kubeInjected(t, optedOut, "-f", "-", "--hub", "h", "--tag", "t")
	if err != nil || out != optedOut || !strings.Contains(said, "Pod default/p is left as it is") {
		t.Errorf("%v, says %q:\n%s", err, said, out)
	}
}

func TestKubeInjectErrors(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("out.yaml", []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := "kind: Pod\nmetadata: {name: p, annotations: {sidecar.istio.io/proxyCPU: x}}\nspec: {containers: [{name: a}]}\n"
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no file":    {nil, "filename"},
		"half":       {[]string{"-f", "-", "--hub", "h"}, "--tag"},
		"missing":    {[]string{"-f", "none.yaml", "--hub", "h", "--tag", "t"}, "none.yaml"},
		"annotation": {[]string{"-f", "-", "--hub", "h", "--tag", "t", "-o", "out.yaml"}, "annotation sidecar.istio.io/proxyCPU"},
		"no cluster": {[]string{"-f", "-"}, "give --hub and --tag"},
	} {
		if _, _, err := kubeInjected(t, bad, c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
	if text, err := os.ReadFile("out.yaml"); err != nil || string(text) != "kept" {
		t.Errorf("a failed injection has touched the output: %q %v", text, err)
	}
}

// TestKubeInjectSamples injects the samples, which must be in order for it.
func TestKubeInjectSamples(t *testing.T) {
	files, err := filepath.Glob("../../samples/*/*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("samples: %v %v", files, err)
	}
	injected := 0
	for _, f := range files {
		out, said, err := kubeInjected(t, "", "-f", f, "--hub", "h", "--tag", "t")
		text, readErr := os.ReadFile(f)
		if err != nil || readErr != nil || said != "" {
			t.Fatalf("%s: %v %v %q", f, err, readErr, said)
		}
		// Some are configuration: there are no pods in it.
		pods := strings.Count(string(text), "\n  template:")
		if got := strings.Count(out, "name: istio-init"); got != pods {
			t.Errorf("%s: %d of %d pod templates injected", f, got, pods)
		}
		injected += pods
	}
	if injected < 5 {
		t.Errorf("%d pod templates in all samples, want 5 at least", injected)
	}
}
