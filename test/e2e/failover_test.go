//go:build e2e

package e2e

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/bench/failover"
	"github.com/isthmus-mesh/isthmus/bench/failover/record"
)

// shortGame are the faults of `make bench-failover` that a test has the time for.
var shortGame = []string{"all pods deleted", "pods crash (kill -9)", "partition, drop", "one of two gateway pods killed", "rolling restart of the service"}

// gentle is a load that a busy machine carries: what is shown here does not depend
// on how much is sent.
var gentle = map[string]float64{"GET": 30, "POST": 5}

// loseNothing makes faults in a mesh of two clusters, under load from both: no GET
// fails, no POST is acted on twice, and all calls are near again in the end. How
// slow the slowest is shows nothing on a machine that does other things as well;
// `make bench-failover` holds bounds there.
func loseNothing(t *testing.T, s *failover.Scene) {
	t.Helper()
	ctx := t.Context()
	traffic, archive, err := failover.Pack(ctx, s.Lab.Root, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s.Lab.Traffic = traffic
	if _, err := s.Lab.Run(ctx, `lab --name "$LAB" load-image "$ARCHIVE"`, "LAB="+s.Lab.Name, "ARCHIVE="+archive); err != nil {
		t.Fatal(err)
	}
	if err := s.Deploy(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Remove(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	}()

	if _, err := s.Lab.Run(ctx, scaleGateway, "NEAR="+s.Near.Context, "GATEWAY="+s.Gateway, "PODS=2"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := s.Lab.Run(context.WithoutCancel(ctx), scaleGateway, "NEAR="+s.Near.Context, "GATEWAY="+s.Gateway, "PODS=1"); err != nil {
			t.Error(err)
		}
	}()

	load := record.Load{URL: s.URL, Rates: gentle, Timeout: 10 * time.Second}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	for _, name := range shortGame {
		i := slices.IndexFunc(failover.Faults, func(f failover.Fault) bool { return f.Name == name })
		if i < 0 {
			t.Fatalf("there is no fault %q", name)
		}
		t.Run(name, func(t *testing.T) { lostNothing(t, s, log, failover.Faults[i], load) })
	}
}

// scaleGateway gives the near cluster's gateway so many pods.
const scaleGateway = `kubectl --context "$NEAR" scale -n istio-system deploy/"$GATEWAY" --replicas="$PODS"
kubectl --context "$NEAR" rollout status -n istio-system deploy/"$GATEWAY" --timeout=120s`

// whatProxiesKnow prints which endpoints the callers' proxies use, and what they and
// the proxies on the way have warned of.
const whatProxiesKnow = `for c in "$NEAR" "$FAR"; do
  echo "$c: endpoints of the caller"
  istioctl x locality target.failover --from caller.failover --context "$c" 2>&1
  kubectl --context "$c" get pods,endpointslices -n failover -o wide 2>&1
  for pod in $(kubectl --context "$c" get pods -n istio-system -l istio=ingressgateway -o name); do
    echo "$c: $pod"
    kubectl --context "$c" logs -n istio-system "$pod" --since=3m 2>&1 | grep -v level=INFO | tail -n 12
  done
  echo "$c: caller"
  kubectl --context "$c" logs -n failover caller -c istio-proxy --since=3m 2>&1 | grep -v level=INFO | tail -n 12
done`

// lostNothing makes one fault.
func lostNothing(t *testing.T, s *failover.Scene, log *slog.Logger, f failover.Fault, load record.Load) {
	defer func() {
		if t.Failed() {
			out, err := s.Lab.Run(context.WithoutCancel(t.Context()), whatProxiesKnow, "NEAR="+s.Near.Context, "FAR="+s.Far.Context)
			t.Logf("what the proxies know: %v\n%s", err, out)
		}
	}()

	rows, err := s.Measure(t.Context(), log, f, load)
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		row := &rows[i]
		t.Log(row)
		if row.Method == "GET" && row.Failed > 0 {
			t.Errorf("%s caller: %d of %d GETs failed: %q", row.Caller, row.Failed, row.Sent, row.Whys)
		}
		if row.Duplicates > 0 {
			t.Errorf("%s caller: %d POSTs were acted on more than once", row.Caller, row.Duplicates)
		}
		if row.BackMS < 0 {
			t.Errorf("%s caller, %s: the calls are not near again", row.Caller, row.Method)
		}
	}
}

// scene is the bench's scene in clusters that a test has made one mesh.
func scene(lab string, sh shell, root string, m failover.Model) *failover.Scene {
	s := failover.NewScene(&failover.Lab{Name: lab, Root: root, Env: sh.env}, m)
	s.Replicas = 3
	return s
}

// failover holds that nothing is lost where one control plane reads both clusters.
func (p *pair) failover(t *testing.T) {
	loseNothing(t, scene(p.name, p.lab, repo(t), failover.Shared))
}

// failoverReplicated holds it where each cluster has its own control plane.
func failoverReplicated(t *testing.T, m *mesh) {
	s := scene(labName, m.lab, repo(t), failover.Replicated)
	if err := s.PassLocal(t.Context()); err != nil {
		t.Fatalf("open the gateways for the service: %v", err)
	}
	defer func() { m.explained = t.Failed() }()
	loseNothing(t, s)
}
