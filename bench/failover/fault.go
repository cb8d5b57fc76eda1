package failover

import (
	"context"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/bench/failover/record"
)

// Fault is something that breaks in the near cluster, and what callers may notice
// of it.
type Fault struct {
	Name string
	// Prepare, if there is one, changes what is no fault in itself.
	Prepare func(context.Context, *Scene) error
	// Break makes it and Heal takes it back, or waits until it is over.
	Break, Heal func(context.Context, *Scene) error
	// Hold is how long it lasts.
	Hold time.Duration
	// TakesCaller says that the near cluster's caller goes with it.
	TakesCaller bool
	Bar         Bar
}

// Bar is what is good enough.
type Bar struct {
	// Failed is the share of requests that may fail.
	Failed float64
	// Over is when, after the break, no request fails or is slow any more, where
	// what breaks is the caller's own; any number may fail until then.
	Over time.Duration
	// Slowest is of all answers after the break, 0 where it does not matter; the
	// slowest answer before the break is added where OverBefore says so.
	Slowest    time.Duration
	OverBefore bool
}

// String is the bar in words.
func (b Bar) String() string {
	text := "0 failed"
	if b.Failed > 0 {
		text = fmt.Sprintf("≤ %.4g%% failed", 100*b.Failed)
	}
	switch {
	case b.Over > 0:
		text = fmt.Sprintf("over after %d ms", b.Over.Milliseconds())
	case b.OverBefore:
		text += fmt.Sprintf(", ≤ %d ms more than before", b.Slowest.Milliseconds())
	case b.Slowest > 0:
		text += fmt.Sprintf(", ≤ %d ms", b.Slowest.Milliseconds())
	}
	return text
}

// flaps is how often a flapping fault comes, each time for flap, and goes for as
// long: often enough that the second and the third time may find what the one before
// has left behind.
const (
	flaps = 3
	flap  = 10 * time.Second
)

// Faults are all of them, in the order in which they are measured: those last that
// leave a cluster to find itself again.
var Faults = []Fault{
	{
		Name:  "all pods deleted",
		Break: script(`kubectl --context $NEAR delete pods -n failover -l app=target --wait=false`),
		Heal:  whole,
		Bar:   Bar{Slowest: 300 * time.Millisecond},
	},
	{
		Name:  "pods crash (kill -9)",
		Break: signal("KILL", "all", "target-", "traffic", "serve"),
		Heal:  whole,
		Bar:   Bar{Slowest: 300 * time.Millisecond},
	},
	{
		Name: "pods answer 503", Hold: 8 * time.Second,
		Break: mode(record.ModeUnavailable),
		Heal:  mode(record.ModeAnswer),
		Bar:   Bar{Slowest: 300 * time.Millisecond},
	},
	{
		Name: "pods hang (SIGSTOP)", Hold: 8 * time.Second,
		Break: signal("STOP", "all", "target-", "traffic", "serve"),
		Heal:  signal("CONT", "all", "target-", "traffic", "serve"),
		Bar:   Bar{Slowest: 2500 * time.Millisecond},
	},
	{
		Name: "partition, drop", Hold: 8 * time.Second,
		Break: script(`lab --name $LAB partition $NEAR $FAR --mode drop`),
		Heal:  script(`lab --name $LAB heal`),
		Bar:   Bar{Slowest: time.Second},
	},
	{
		Name: "partition, reject", Hold: 8 * time.Second,
		Break: script(`lab --name $LAB partition $NEAR $FAR --mode reject`),
		Heal:  script(`lab --name $LAB heal`),
		Bar:   Bar{Slowest: time.Second},
	},
	{
		// Before kube-proxy sees it, so that the port is the load balancer's.
		Name: "half of the packets to the gateway lost", Hold: 10 * time.Second,
		Break: script(`lab --name $LAB exec $NEAR -- nft 'table ip bench-failover { chain in { type filter hook prerouting priority raw; iifname eth0 tcp dport { 443, 15443 } numgen random mod 2 0 drop; }; }'`),
		Heal:  script(`lab --name $LAB exec $NEAR -- nft 'add table ip bench-failover; delete table ip bench-failover'`),
		Bar:   Bar{Failed: 0.001},
	},
	{
		Name:  "one of two gateway pods killed",
		Break: signal("KILL", "one", "istio-ingressgateway-", "isthmus-proxy", "router"),
		Heal:  script(`kubectl --context $NEAR rollout status -n istio-system deploy/$GATEWAY --timeout=120s`),
		Bar:   Bar{Slowest: 500 * time.Millisecond},
	},
	{
		Name:  "istiod killed",
		Break: signal("KILL", "all", "istiod-", "isthmus", "discovery"),
		Heal:  script(`kubectl --context $NEAR rollout status -n istio-system deploy/istiod --timeout=120s`),
		Bar:   Bar{Slowest: 50 * time.Millisecond, OverBefore: true},
	},
	{
		Name:  "API server killed",
		Break: signal("KILL", "all", "", "kube-apiserver"),
		Heal:  script(apiServerReady),
		Bar:   Bar{Slowest: 50 * time.Millisecond, OverBefore: true},
	},
	{
		// What it knows, it has from the pod's own volume.
		Name: "caller's sidecar killed, no istiod left", Hold: 5 * time.Second,
		Prepare: script(discovery("0")),
		Break:   both(signalIn("KILL", "all", "caller", "isthmus-proxy", "sidecar")),
		Heal:    script(discovery("1") + "\n" + waitCallers),
		Bar:     Bar{Over: 2 * time.Second},
	},
	{
		Name:  "rolling restart of the service",
		Break: script(`kubectl --context $NEAR rollout restart -n failover deploy/target`),
		Heal:  whole,
		Bar:   Bar{Slowest: 100 * time.Millisecond, OverBefore: true},
	},
	{
		Name:  "rolling restart of the gateway",
		Break: script(`kubectl --context $NEAR rollout restart -n istio-system deploy/$GATEWAY`),
		Heal:  script(`kubectl --context $NEAR rollout status -n istio-system deploy/$GATEWAY --timeout=120s`),
		Bar:   Bar{Slowest: 100 * time.Millisecond, OverBefore: true},
	},
	{
		Name:  "rolling restart of istiod",
		Break: script(`kubectl --context $NEAR rollout restart -n istio-system deploy/istiod`),
		Heal:  script(`kubectl --context $NEAR rollout status -n istio-system deploy/istiod --timeout=120s`),
		Bar:   Bar{Slowest: 100 * time.Millisecond, OverBefore: true},
	},
	{
		Name: "scale to 1 and back", Hold: 5 * time.Second,
		Break: script(`kubectl --context $NEAR scale -n failover deploy/target --replicas=1`),
		Heal:  script(`kubectl --context $NEAR scale -n failover deploy/target --replicas=$REPLICAS` + "\n" + waitWhole),
		Bar:   Bar{Slowest: 100 * time.Millisecond, OverBefore: true},
	},
	{
		Name:  "flapping, 10 s each way",
		Break: flapping,
		Heal:  script(`lab --name $LAB heal`),
		Bar:   Bar{Failed: 0.001},
	},
	{
		Name: "whole cluster off", Hold: 8 * time.Second, TakesCaller: true,
		Break: script(`lab --name $LAB stop $NEAR`),
		Heal:  script(`lab --name $LAB start $NEAR` + "\n" + apiServerReady + "\n" + waitWhole),
		Bar:   Bar{Slowest: time.Second},
	},
}

const (
	waitWhole      = `kubectl --context $NEAR rollout status -n failover deploy/target --timeout=120s`
	apiServerReady = `for i in $(seq 100); do kubectl --context $NEAR get --raw /readyz >/dev/null 2>&1 && break; sleep 0.2; done
kubectl --context $NEAR get --raw /readyz >/dev/null`
)

// waitCallers waits until the callers' pods are ready.
const waitCallers = `for c in $NEAR $FAR; do kubectl --context $c wait -n failover pod/caller --for=condition=Ready --timeout=120s; done`

// discovery scales the control planes, where there are any; that of a cluster that
// has none of its own is another one's.
func discovery(replicas string) string {
	return `for c in $NEAR $FAR; do
  if kubectl --context $c get deploy -n istio-system istiod >/dev/null 2>&1; then
    kubectl --context $c scale -n istio-system deploy/istiod --replicas=` + replicas + `
    kubectl --context $c rollout status -n istio-system deploy/istiod --timeout=120s
  fi
  while [ ` + replicas + ` = 0 ] && kubectl --context $c get pods -n istio-system -l app=istiod -o name | grep -q .; do sleep 0.5; done
done`
}

// whole waits until the near cluster has all of its pods.
var whole = script(waitWhole)

// script is a step of commands, with the variables of Scene.run.
func script(text string) func(context.Context, *Scene) error {
	return func(ctx context.Context, s *Scene) error {
		_, err := s.run(ctx, text)
		return err
	}
}

// signal is a step that signals processes of the near cluster, as Lab.signal.
func signal(name, which, pod string, words ...string) func(context.Context, *Scene) error {
	return func(ctx context.Context, s *Scene) error {
		return s.Lab.signal(ctx, s.Near.Context, name, which, pod, words...)
	}
}

// signalIn signals processes of a cluster, as Lab.signal.
func signalIn(name, which, pod string, words ...string) func(context.Context, *Scene, Cluster) error {
	return func(ctx context.Context, s *Scene, c Cluster) error {
		return s.Lab.signal(ctx, c.Context, name, which, pod, words...)
	}
}

// both is a step that does the same in both clusters.
func both(do func(context.Context, *Scene, Cluster) error) func(context.Context, *Scene) error {
	return func(ctx context.Context, s *Scene) error {
		return s.both(ctx, func(ctx context.Context, c Cluster) error { return do(ctx, s, c) })
	}
}

// mode is a step that tells the near cluster's pods how to answer.
func mode(to string) func(context.Context, *Scene) error {
	return func(ctx context.Context, s *Scene) error { return s.setMode(ctx, to) }
}

// flapping parts the clusters and joins them, again and again.
func flapping(ctx context.Context, s *Scene) error {
	for range flaps {
		for _, what := range []string{`partition "$NEAR" "$FAR" --mode drop`, "heal"} {
			if err := script("lab --name $LAB "+what)(ctx, s); err != nil {
				return err
			}
			if err := pause(ctx, flap); err != nil {
				return err
			}
		}
	}
	return nil
}

// pause waits, unless it is told to end.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
