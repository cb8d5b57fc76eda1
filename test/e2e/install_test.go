//go:build e2e

package e2e

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const installLab = "e2e-install"

// installation is a cluster that is installed into, and what it held before.
type installation struct {
	shell
	root  string
	empty state
	helm  string // the binary
	// fresh is what the default profile adds to an empty cluster.
	fresh state
	// took is how long that took.
	took time.Duration
}

// TestInstaller installs, changes, breaks and removes the mesh in every way there
// is, and holds the cluster's objects against what they were.
func TestInstaller(t *testing.T) {
	root := repo(t)
	helm := buildHelm(t)
	i := &installation{shell: bareLab(t, root, installLab, "--clusters 1"), root: root, helm: helm}
	// The cluster's DNS remembers names for half a minute, those of what is gone
	// included. Nobody installs and removes as often as this test does.
	i.must(t, `kubectl get configmap -n kube-system coredns -o yaml | sed '/^ *cache 30$/d' | kubectl replace -f -
kubectl rollout restart -n kube-system deploy/coredns
kubectl rollout status -n kube-system deploy/coredns --timeout=60s`)
	i.eventually(t, time.Minute, "test $(kubectl get pods -n kube-system -l k8s-app=kube-dns -o name | wc -l) = 1")
	i.empty = i.state(t)
	i.dir = t.TempDir() // what the commands write stays out of the repository
	for _, step := range []struct {
		name string
		run  func(*testing.T, *installation)
	}{
		{"as the text says", typedAsPrinted},
		{"too little access", tooLittleAccess},
		{"profiles in turn", profilesInTurn},
		{"helm", helmInstalls},
		{"killed", killedAnywhere},
		{"removal killed", removalKilled},
		{"operator", operatorKeeps},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.run(t, i) }) {
			out, _ := i.run(context.Background(), "kubectl get pods -A; kubectl get events -A --sort-by=.lastTimestamp | tail -n 30; kubectl logs -n istio-system deploy/istiod --tail=30; kubectl logs -n istio-operator deploy/istio-operator --tail=30")
			t.Fatalf("the cluster:\n%s", out)
		}
	}
}

// timed runs a command that ought to take no longer than bar on an idle machine,
// and fails the test when it takes twice that. On a busy machine the bar is as
// many times higher as a computation takes longer there.
func (i *installation) timed(t *testing.T, bar time.Duration, command string) time.Duration {
	t.Helper()
	before := crowding()
	started := time.Now()
	i.must(t, command)
	took := time.Since(started)
	slower := max(before, crowding())

	t.Logf("TIME %.2f s (bar %.1f s, machine %.1f times slower than idle): %s", took.Seconds(), bar.Seconds(), slower, command)
	if took.Seconds() > 2*bar.Seconds()*slower {
		t.Errorf("%s took %.1f s; it ought to take %.1f on an idle machine, and this one is %.1f times slower", command, took.Seconds(), bar.Seconds(), slower)
	}
	return took
}

// isEmpty asserts that the cluster holds what it held before the first install.
func (i *installation) isEmpty(t *testing.T) {
	t.Helper()
	same(t, "the cluster is not as it was before the install", i.empty.names(), func() []string { return i.state(t).names() })
}

// typedAsPrinted is 部署 and 单集群部署 of the text, from a folder of its own.
func typedAsPrinted(t *testing.T, i *installation) {
	i.must(t, "istioctl install --set profile=default --set hub=isthmus.local --set addonComponents.istiocoredns.enabled=true")
	i.must(t, "kubectl get deploy -n istio-system istiod istio-ingressgateway istiocoredns")
	i.must(t, "istioctl manifest apply --set values.global.proxy.logLevel=debug")
	i.must(t, "kubectl get configmap -n istio-system istio-sidecar-injector -o jsonpath='{.data.values}' | grep -i 'logLevel.*debug'")
	i.must(t, "! kubectl get deploy -n istio-system istiocoredns # nobody asked for it any more")
	i.must(t, `istioctl collateral --bash -o tools
set +eu
[ ! -f /usr/share/bash-completion/bash_completion ] || source /usr/share/bash-completion/bash_completion
source tools/istioctl.bash
complete -p istioctl
istioctl __complete manifest gen 2>/dev/null | grep ^generate`)
	i.must(t, "istioctl uninstall --purge -y")
	i.isEmpty(t)

	i.must(t, "kubectl create namespace istio-system")
	i.must(t, "istioctl manifest generate --set values.global.jwtPolicy=first-party-jwt --set profile=default > istio-default.yaml")
	i.must(t, "kubectl apply -f istio-default.yaml")
	i.eventually(t, time.Minute, "istioctl verify-install -f istio-default.yaml")
	// What was applied by hand can be taken over, and then removed; the
	// namespace is the user's.
	i.must(t, "istioctl install --set values.global.jwtPolicy=first-party-jwt --set profile=default")
	i.must(t, "istioctl uninstall --purge -y")
	i.must(t, "kubectl delete namespace istio-system")
	i.isEmpty(t)
}

// tooLittleAccess installs as somebody who may only read.
func tooLittleAccess(t *testing.T, i *installation) {
	i.must(t, `kubectl create serviceaccount reader -n default
kubectl create clusterrolebinding isthmus-test-reader --clusterrole=view --serviceaccount=default:reader
cp $KUBECONFIG reader.kubeconfig
kubectl config --kubeconfig=reader.kubeconfig set-credentials reader --token=$(kubectl create token reader -n default)
kubectl config --kubeconfig=reader.kubeconfig set-context --current --user=reader`)
	before := i.state(t).names()
	out := i.refused(t, "istioctl --kubeconfig=reader.kubeconfig install")
	for _, want := range []string{
		"create namespaces (whole cluster)", "create customresourcedefinitions.apiextensions.k8s.io (whole cluster)",
		"patch deployments.apps in namespace istio-system", "create clusterroles.rbac.authorization.k8s.io (whole cluster)",
		"nothing was changed",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not said:\n%s", want, out)
		}
	}
	if strings.Contains(out, "get services in namespace") {
		t.Errorf("what a reader may do is listed as missing:\n%s", out)
	}
	t.Logf("a reader is told:\n%s", out)
	same(t, "a refused install has changed something", before, func() []string { return i.state(t).names() })
	i.must(t, "kubectl delete clusterrolebinding isthmus-test-reader; kubectl delete serviceaccount reader -n default")
}

// profilesInTurn goes default → minimal → demo → default, and measures.
func profilesInTurn(t *testing.T, i *installation) {
	i.timed(t, 300*time.Millisecond, "istioctl manifest generate > one.yaml")
	i.timed(t, 300*time.Millisecond, "istioctl manifest generate > two.yaml")
	i.must(t, "cmp one.yaml two.yaml")

	i.took = i.timed(t, 8*time.Second, "istioctl install --set profile=default")
	i.verified(t)
	i.fresh = i.state(t).added(i.empty)
	i.timed(t, 2*time.Second, "istioctl install --set profile=default")
	i.must(t, "istioctl install --set profile=default | grep 'Nothing to do'")
	for _, profile := range []string{"minimal", "demo"} {
		i.must(t, "istioctl install --set profile="+profile)
		i.verified(t)
	}
	i.must(t, "istioctl install --set profile=default")
	i.verified(t)
	same(t, "default after other profiles is not default", i.fresh, func() state { return i.state(t).added(i.empty) })
	i.timed(t, 6*time.Second, "istioctl uninstall --purge -y")
	i.isEmpty(t)

	i.timed(t, 5*time.Second, "istioctl install --set profile=minimal")
	i.timed(t, 2*time.Second, "istioctl install --set profile=minimal")
	i.timed(t, 6*time.Second, "istioctl uninstall --purge -y")
	i.isEmpty(t)
}

// verified runs verify-install, and looks for objects that no inventory names.
func (i *installation) verified(t *testing.T) {
	t.Helper()
	verified := i.must(t, "istioctl verify-install")
	for id, o := range i.state(t) {
		labels, _ := o["metadata"].(map[string]any)["labels"].(map[string]any)
		name := strings.ReplaceAll(id, "//", "/")
		owned := labels["app.kubernetes.io/managed-by"] == "isthmus"
		if owned && !strings.Contains(verified+"\n", "✔ "+name+"\n") {
			t.Errorf("orphan: %s", name)
		}
	}
}

// killedAnywhere kills the installer at ten points; a second run completes what it
// began.
func killedAnywhere(t *testing.T, i *installation) {
	const points = 10
	for k := range points {
		after := time.Duration((float64(k) + rand.Float64()) / points * float64(i.took))
		out := i.kill(t, after, false, "install", "--set", "profile=default", "-y")
		i.must(t, "istioctl install --set profile=default")
		same(t, "not the same as after one install", i.fresh, func() state { return i.state(t).added(i.empty) })
		i.must(t, "istioctl uninstall --purge -y")
		i.isEmpty(t)
		t.Logf("KILLED after %.2f s, having said %q: completed by the second run, and removed without rest", after.Seconds(), lastLine(out))
	}
}

// kill runs istioctl and kills it after a while, counted from its start or from
// when it first said something. It returns what it printed.
func (i *installation) kill(t *testing.T, after time.Duration, spoken bool, args ...string) string {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(filepath.Join(i.root, "bin", "istioctl"), args...)
	cmd.Env = append(os.Environ(), i.env...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); spoken && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if info, err := out.Stat(); err == nil && info.Size() > 0 {
			break
		}
	}
	time.Sleep(after)
	if err := cmd.Process.Kill(); err != nil {
		t.Logf("it had ended: %v", err)
	}
	_ = cmd.Wait() // "signal: killed"
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// removalKilled kills uninstall while it deletes; a second run completes it, and
// nothing is left that no inventory knows of.
func removalKilled(t *testing.T, i *installation) {
	for _, after := range []time.Duration{50, 250} {
		i.must(t, "istioctl install --set profile=minimal")
		after := (after + rand.N[time.Duration](150)) * time.Millisecond
		out := i.kill(t, after, true, "uninstall", "--purge", "-y")
		time.Sleep(7 * time.Second) // by then Kubernetes has emptied the namespace
		again, err := i.run(context.Background(), "istioctl uninstall --purge -y")
		i.isEmpty(t)
		t.Logf("KILLED removal %.2f s after %q; the second run: %q %v", after.Seconds(), lastLine(out), lastLine(again), err)
	}
}

const operatorResource = `apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
metadata:
  name: example
  namespace: istio-system
spec:
  profile: minimal
`

// operatorKeeps lets the operator install, changes its resource, breaks what it
// made, and removes it.
func operatorKeeps(t *testing.T, i *installation) {
	i.must(t, "istioctl operator init")
	i.must(t, "kubectl create namespace istio-system && kubectl apply -f - <<EOF\n"+operatorResource+"EOF")
	healthy := "kubectl wait -n istio-system istiooperator/example --for=jsonpath='{.status.status}'=HEALTHY --timeout=60s"
	i.must(t, healthy)
	i.must(t, "istioctl verify-install")
	i.must(t, `kubectl patch -n istio-system istiooperator example --type=merge -p '{"spec":{"values":{"global":{"proxy":{"logLevel":"debug"}}}}}'`)
	i.eventually(t, 20*time.Second, "kubectl get configmap -n istio-system istio-sidecar-injector -o jsonpath='{.data.values}' | grep -i 'logLevel.*debug'")
	i.must(t, "kubectl delete deployment -n istio-system istiod")
	i.eventually(t, 20*time.Second, "kubectl get deployment -n istio-system istiod")
	i.must(t, "kubectl rollout status -n istio-system deploy/istiod --timeout=60s")
	i.eventually(t, 20*time.Second, "istioctl verify-install")
	// The pod of the Deployment that was deleted takes its time to say goodbye.
	i.eventually(t, time.Minute, `test "$(kubectl get pods -n istio-system -l app=istiod -o name | wc -l)" = 1`)

	out := i.refused(t, "istioctl uninstall --purge -y")
	if !strings.Contains(out, "operator") {
		t.Errorf("the refusal does not speak of the operator: %s", out)
	}
	before := i.state(t).names()
	i.must(t, "istioctl operator remove --dry-run")
	same(t, "a dry run has changed something", before, func() []string { return i.state(t).names() })
	i.must(t, "istioctl operator remove")
	i.must(t, "istioctl verify-install # the mesh stays")
	i.must(t, "! kubectl get namespace istio-operator")
	i.must(t, "istioctl uninstall --purge -y && kubectl delete namespace istio-system")
	i.isEmpty(t)
}
