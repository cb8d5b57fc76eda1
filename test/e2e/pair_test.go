//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// pair is two clusters of a lab that are joined to one mesh in different ways,
// one after the other.
type pair struct {
	name string // of the lab
	lab  shell
	// dirs are release folders, one for each cluster: where the guides' commands
	// are typed.
	dirs map[string]shell
}

// The contexts of the pair's clusters.
const (
	ctxOne = "cluster-1"
	ctxTwo = "cluster-2"
	// ctxThree is a cluster that joins the pair and leaves it again.
	ctxThree = "cluster-3"
)

// startPair starts a lab of two clusters or more with the samples' images, and
// makes a certificate authority for each under one root.
func startPair(t *testing.T, lab, flags string) *pair {
	t.Helper()
	root := repo(t)
	p := &pair{name: lab, lab: bareLab(t, root, lab, flags), dirs: map[string]shell{}}
	p.lab.must(t, "lab --name "+lab+" sample-images")

	certs := filepath.Join(t.TempDir(), "root")
	p.lab.must(t, "isthmus x ca create-root --out "+certs)
	for ctx := range strings.FieldsSeq(p.lab.must(t, "kubectl config get-contexts -o name")) {
		p.dirs[ctx] = p.lab.release(t, root, certs, ctx)
	}
	// The guides type their commands in one place, for both clusters.
	p.lab.dir = p.dirs[ctxOne].dir
	for _, sample := range []string{"samples/helloworld", "samples/multicluster"} {
		if err := os.Symlink(filepath.Join(root, sample), filepath.Join(p.lab.dir, sample)); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// step is a part of a test of a pair, which needs those before it.
type step struct {
	name string
	run  func(*pair, *testing.T)
}

// way is a way to join two clusters.
type way struct {
	name  string
	steps []step
}

// ways walks them one after the other, with a clear pair in between, and ends
// with a table of what came of each.
func (p *pair) ways(t *testing.T, ways []way) {
	t.Helper()
	var table strings.Builder
	used := false
	for _, w := range ways {
		verdict := "not run"
		ok := t.Run(w.name, func(t *testing.T) {
			verdict = "both clusters answer both"
			if used {
				p.clear(t)
			}
			used = true
			for _, s := range w.steps {
				if !t.Run(s.name, func(t *testing.T) { s.run(p, t) }) {
					p.explain(t)
					t.FailNow()
				}
			}
		})
		if !ok {
			verdict = "FAILED"
		}
		fmt.Fprintf(&table, "%-45s %s\n", w.name, verdict)
	}
	t.Logf("ways to join two clusters:\n%s", table.String())
}

// with is the shell with more environment variables, NAME=VALUE each.
func (s shell) with(env ...string) shell {
	return shell{dir: s.dir, env: append(append([]string{}, s.env...), env...)}
}

// cacerts gives clusters an authority under the common root, by the commands of
// the guide.
func (p *pair) cacerts(t *testing.T, contexts ...string) {
	t.Helper()
	for _, ctx := range contexts {
		p.dirs[ctx].must(t, `kubectl create namespace istio-system
kubectl create secret generic cacerts -n istio-system \
--from-file=samples/certs/ca-cert.pem \
--from-file=samples/certs/ca-key.pem \
--from-file=samples/certs/root-cert.pem \
--from-file=samples/certs/cert-chain.pem`)
	}
}

// clear takes the mesh and the samples out of both clusters.
func (p *pair) clear(t *testing.T) {
	t.Helper()
	for _, ctx := range []string{ctxOne, ctxTwo} {
		p.lab.must(t, fmt.Sprintf(`istioctl uninstall --context=%[1]s --purge -y
kubectl --context=%[1]s delete namespace istio-system sample outside --ignore-not-found --wait --timeout=120s`, ctx))
	}
}

// verification is what the multi-cluster guides of Istio deploy to see whether
// calls go across: HelloWorld v1 in the first cluster, v2 in the second, a client
// in each.
const verification = `for CTX in ` + ctxOne + ` ` + ctxTwo + `; do
kubectl create --context="${CTX}" namespace sample
kubectl label --context="${CTX}" namespace sample istio-injection=enabled
kubectl apply --context="${CTX}" -f samples/helloworld/helloworld.yaml -l service=helloworld -n sample
kubectl apply --context="${CTX}" -f samples/sleep/sleep.yaml -n sample
done
kubectl apply --context=` + ctxOne + ` -f samples/helloworld/helloworld.yaml -l version=v1 -n sample
kubectl apply --context=` + ctxTwo + ` -f samples/helloworld/helloworld.yaml -l version=v2 -n sample
kubectl rollout status --context=` + ctxOne + ` -n sample deploy/helloworld-v1 --timeout=120s
kubectl rollout status --context=` + ctxTwo + ` -n sample deploy/helloworld-v2 --timeout=120s
for CTX in ` + ctxOne + ` ` + ctxTwo + `; do kubectl rollout status --context="${CTX}" -n sample deploy/sleep --timeout=120s; done`

// hello calls HelloWorld n times from the client of a cluster.
func hello(ctx string, n int) string {
	return fmt.Sprintf(`kubectl exec --context=%s -n sample -c sleep deploy/sleep -- sh -c 'for i in $(seq %d); do curl -sS -m 5 -f helloworld.sample:5000/hello || exit 1; done'`, ctx, n)
}

// answered waits until the client of each cluster is answered by exactly these
// versions of HelloWorld.
func (p *pair) answered(t *testing.T, ctx string, versions ...string) {
	t.Helper()
	var check strings.Builder
	fmt.Fprintf(&check, "out=$(%s); echo \"$out\" | sed 's/,.*//' | sort | uniq -c\n", hello(ctx, 16))
	for _, v := range []string{"v1", "v2"} {
		not := "! "
		for _, want := range versions {
			if v == want {
				not = ""
			}
		}
		fmt.Fprintf(&check, "%sgrep -q 'version: %s,' <<<\"$out\"\n", not, v)
	}
	p.lab.eventually(t, 60*time.Second, check.String())
}

// verify deploys HelloWorld and holds what the guides promise, and what we do
// beyond: the near one answers while there is one, and the far one as soon as
// there is not. Where nobody says what is near, both do.
func (p *pair) verify(t *testing.T) {
	t.Helper()
	p.lab.must(t, verification)
	p.answered(t, ctxOne, "v1")
	p.answered(t, ctxTwo, "v2")

	p.lab.must(t, "kubectl scale --context="+ctxOne+" -n sample deploy/helloworld-v1 --replicas=0")
	p.answered(t, ctxOne, "v2")
	p.lab.must(t, "kubectl scale --context="+ctxOne+" -n sample deploy/helloworld-v1 --replicas=1")
	p.answered(t, ctxOne, "v1")
	p.lab.must(t, "kubectl scale --context="+ctxTwo+" -n sample deploy/helloworld-v2 --replicas=0")
	p.answered(t, ctxTwo, "v1")
	p.lab.must(t, "kubectl scale --context="+ctxTwo+" -n sample deploy/helloworld-v2 --replicas=1")

	p.regions(t, false)
	defer p.regions(t, true)
	p.answered(t, ctxOne, "v1", "v2")
	p.answered(t, ctxTwo, "v1", "v2")
}

// regions takes the regions off the nodes, or puts them there.
func (p *pair) regions(t *testing.T, there bool) {
	t.Helper()
	for i, ctx := range []string{ctxOne, ctxTwo} {
		labels := "topology.kubernetes.io/region- topology.kubernetes.io/zone-"
		if there {
			labels = fmt.Sprintf("topology.kubernetes.io/region=region-%[1]d topology.kubernetes.io/zone=region-%[1]d-a", i+1)
		}
		p.lab.must(t, "kubectl label --context="+ctx+" node --all "+labels)
	}
}

// onlyFar takes HelloWorld out of the first cluster, so that its client is
// answered by the second, and gives a function that puts it back.
func (p *pair) onlyFar(t *testing.T) (back func()) {
	t.Helper()
	scale := "kubectl scale --context=" + ctxOne + " -n sample deploy/helloworld-v1 --replicas="
	p.lab.must(t, scale+"0")
	p.answered(t, ctxOne, "v2")
	return func() {
		p.lab.must(t, scale+"1")
		p.answered(t, ctxOne, "v1")
	}
}

// unreadable sends a word across and looks for it in what passes the other
// cluster's node: at the gateway's ports it is not to be found. A call in
// plaintext to the same pod shows that it would be.
func (p *pair) unreadable(t *testing.T) {
	defer p.onlyFar(t)()
	peer := buildPeer(t, repo(t), filepath.Join(t.TempDir(), "peer"))
	p.lab.must(t, `kubectl create --context=`+ctxTwo+` namespace outside
kubectl apply --context=`+ctxTwo+` -n outside -f samples/sleep/sleep.yaml
kubectl rollout status --context=`+ctxTwo+` -n outside deploy/sleep --timeout=120s`)
	pod := p.lab.must(t, "kubectl get pods --context="+ctxTwo+" -n sample -l app=helloworld -o jsonpath='{.items[0].status.podIP}'")

	const word = "tell-nobody-4711"
	out := p.lab.must(t, `capture() { lab --name `+p.name+` exec `+ctxTwo+` -- `+peer+` capture $1 `+word+` 8 2>&1; }
capture 443 & capture 8443 & capture 5000 &
sleep 1
for i in 1 2 3 4 5; do
kubectl exec --context=`+ctxOne+` -n sample -c sleep deploy/sleep -- curl -sS -m 5 -f -o /dev/null -H "x-word: `+word+`" helloworld.sample:5000/hello
kubectl exec --context=`+ctxTwo+` -n outside deploy/sleep -- curl -sS -m 5 -f -o /dev/null -H "x-word: `+word+`" http://`+pod+`:5000/hello
done
wait`)
	for port, wanted := range map[string]bool{"443": false, "8443": false, "5000": true} {
		m := regexp.MustCompile(`port ` + port + `: ([0-9]+) segments, ([0-9]+) with the text`).FindStringSubmatch(out)
		if m == nil || m[1] == "0" && port != "443" {
			t.Errorf("nothing was captured at port %s:\n%s", port, out)
			continue
		}
		if found := m[2] != "0"; found != wanted {
			t.Errorf("port %s: the text was found: %v, want %v\n%s", port, found, wanted, out)
		}
	}
}

// explain prints what the clusters know when a step failed.
func (p *pair) explain(t *testing.T) {
	t.Helper()
	for _, ctx := range []string{ctxOne, ctxTwo} {
		for _, what := range []string{
			"get pods,svc -A -o wide", "get events -A --sort-by=.lastTimestamp",
			"logs -n istio-system deploy/istiod --tail=60",
			"logs -n istio-system deploy/istio-ingressgateway --tail=20",
			"logs -n istio-system deploy/istio-eastwestgateway --tail=20",
			"logs -n sample deploy/sleep -c istio-proxy --tail=30",
			"exec -n sample deploy/sleep -c istio-proxy -- /isthmus-proxy request GET /clusters | grep -A40 helloworld",
		} {
			out, err := p.lab.run(context.Background(), "kubectl --context "+ctx+" "+what+" 2>&1 | tail -n 60")
			t.Logf("%s %s: %v\n%s", ctx, what, err, out)
		}
	}
}
