//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// helmVersion is the stock Helm that the charts are installed with.
const helmVersion = "v3.22.0"

// buildHelm builds stock Helm from its module, in a module of its own.
func buildHelm(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "helm")
	for _, args := range [][]string{
		{"mod", "init", "example.com/helm"},
		{"get", "helm.sh/helm/v3/cmd/helm@" + helmVersion},
		{"build", "-o", binary, "helm.sh/helm/v3/cmd/helm"},
	} {
		cmd := exec.Command("go", args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %v: %v\n%s", args, err, out)
		}
	}
	return binary
}

// helmInstalls installs the charts of the default profile with stock Helm, and
// finds the objects that install makes.
func helmInstalls(t *testing.T, i *installation) {
	helm := "HELM_CACHE_HOME=$PWD/helm HELM_CONFIG_HOME=$PWD/helm HELM_DATA_HOME=$PWD/helm " + i.helm + " -n istio-system "
	charts := filepath.Join(i.root, "charts")
	i.must(t, helm+"install istio-base "+charts+"/base --create-namespace")
	i.must(t, helm+"install istiod "+charts+"/istiod --wait")
	i.must(t, helm+"install istio-ingressgateway "+charts+"/gateway --wait")
	want := i.fresh.clone(t).withoutTools()
	same(t, "Helm does not make the objects that install makes", want, func() state { return i.state(t).added(i.empty).withoutTools() })
	i.must(t, helm+"uninstall istio-ingressgateway istiod istio-base --wait")
	// Helm keeps the CRDs, for users' resources would go with them.
	i.must(t, "kubectl get crd -o name | grep '[.]istio[.]io$' | xargs kubectl delete")
	i.must(t, "kubectl delete configmap -A --field-selector metadata.name=istio-ca-root-cert; kubectl delete namespace istio-system")
	i.isEmpty(t)
}
