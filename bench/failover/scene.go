package failover

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/bench/failover/record"
)

// Cluster is one of the two.
type Cluster struct {
	// Context is its name in the lab and in the kubeconfig.
	Context string
	Region  string
}

// Scene is a service of several pods in two clusters that are one mesh, and a
// caller in each.
type Scene struct {
	Lab *Lab
	// Model is how the clusters are joined.
	Model Model
	// Near is where the faults are; the callers of both clusters are in its region.
	Near, Far Cluster
	// Gateway is the Deployment, in istio-system, that leads into a cluster.
	Gateway string
	// URL is what the callers call.
	URL string
	// Replicas is the number of pods in each cluster.
	Replicas int
	// StormRate is the calls a second of a storm.
	StormRate float64
	// Records is a directory for what became of each request; none if empty.
	Records string
}

// Namespace is where all of a scene lives.
const Namespace = "failover"

// The image that runs in the pods, as setup/scene.yaml names it.
const (
	imageHub = "isthmus-bench"
	imageTag = "v1"
)

// manifest is a cluster's part of the scene.
//
//go:embed setup/scene.yaml
var manifest string

// Deploy brings the scene into both clusters, makes its service one over both, and
// waits until it runs.
func (s *Scene) Deploy(ctx context.Context) error {
	err := s.both(ctx, func(ctx context.Context, c Cluster) error {
		_, err := s.run(ctx, "kubectl --context $CLUSTER apply -f - <<EOF\n"+manifest+"EOF\n"+`
kubectl --context "$CLUSTER" rollout status -n failover deploy/target --timeout=120s
kubectl --context "$CLUSTER" wait -n failover pod/caller --for=condition=Ready --timeout=120s`, "CLUSTER="+c.Context)
		return err
	})
	if err != nil || s.Model != Replicated { // a shared control plane reads both
		return err
	}
	_, err = s.run(ctx, joinReplicated)
	return err
}

// Remove takes the scene out of both clusters.
func (s *Scene) Remove(ctx context.Context) error {
	return s.both(ctx, func(ctx context.Context, c Cluster) error {
		_, err := s.run(ctx, `kubectl --context "$CLUSTER" delete namespace failover --ignore-not-found --wait --timeout=120s`, "CLUSTER="+c.Context)
		return err
	})
}

// run runs a bash script that knows the scene by its variables, and others, each
// NAME=VALUE.
func (s *Scene) run(ctx context.Context, script string, env ...string) (string, error) {
	return s.Lab.Run(ctx, script, append([]string{
		"LAB=" + s.Lab.Name, "NEAR=" + s.Near.Context, "FAR=" + s.Far.Context,
		"NEAR_REGION=" + s.Near.Region, "FAR_REGION=" + s.Far.Region,
		"GATEWAY=" + s.Gateway, fmt.Sprintf("REPLICAS=%d", s.Replicas),
	}, env...)...)
}

// both does the same in both clusters at once.
func (s *Scene) both(ctx context.Context, do func(context.Context, Cluster) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, c := range []Cluster{s.Near, s.Far} {
		g.Go(func() error { return do(ctx, c) })
	}
	return g.Wait()
}

// podIPs are the addresses of the pods of an app.
func (s *Scene) podIPs(ctx context.Context, c Cluster, app string) ([]string, error) {
	out, err := s.run(ctx, `kubectl --context "$CLUSTER" get pods -n failover -l app="$APP" -o jsonpath='{range .items[*]}{.status.podIP}{"\n"}{end}'`,
		"CLUSTER="+c.Context, "APP="+app)
	return strings.Fields(out), err
}

// control is where a pod takes orders.
func control(ip string) string { return fmt.Sprintf("http://%s:%d", ip, record.PortControl) }

// setMode tells pods of the near cluster how to answer; all of them, if none is
// named by its address.
func (s *Scene) setMode(ctx context.Context, mode string, ips ...string) (err error) {
	if len(ips) == 0 {
		if ips, err = s.podIPs(ctx, s.Near, "target"); err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, ip := range ips {
		g.Go(func() error {
			_, err := s.Lab.ask(ctx, s.Near.Context, http.MethodPost, control(ip)+"/mode", mode)
			return err
		})
	}
	return g.Wait()
}

// acted are the POSTs that a cluster's pods have acted on, a line each; they are
// forgotten then.
func (s *Scene) acted(ctx context.Context, c Cluster) (string, error) {
	// The file is emptied, not removed: the pods hold it open.
	out, err := s.Lab.onNode(ctx, c.Context, "sh", "-c",
		`f=`+record.CountsDir+`/acted; if [ -f $f ]; then cat $f; : >$f; fi`)
	return string(out), err
}

// caller is the client in one cluster.
type caller struct {
	lab     *Lab
	cluster Cluster
	url     string // of its control port
}

func (s *Scene) caller(ctx context.Context, c Cluster) (*caller, error) {
	ips, err := s.podIPs(ctx, c, "caller")
	if err != nil {
		return nil, err
	}
	if len(ips) != 1 {
		return nil, fmt.Errorf("%s has %d callers, want one: deploy the scene anew", c.Context, len(ips))
	}
	return &caller{lab: s.Lab, cluster: c, url: control(ips[0])}, nil
}

// start begins to send; what was being sent before is ended.
func (c *caller) start(ctx context.Context, load record.Load) error {
	body, err := json.Marshal(load)
	if err != nil {
		return err
	}
	_, err = c.lab.ask(ctx, c.cluster.Context, http.MethodPost, c.url+"/start", string(body))
	return err
}

// recent tells of the answers of the last while.
func (c *caller) recent(ctx context.Context, within time.Duration) (record.Recent, error) {
	var r record.Recent
	out, err := c.lab.ask(ctx, c.cluster.Context, http.MethodGet, c.url+"/recent?within="+within.String(), "")
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(out, &r)
}

// stop ends the run, and returns what became of each request.
func (c *caller) stop(ctx context.Context) (record.Run, error) {
	out, err := c.lab.ask(ctx, c.cluster.Context, http.MethodPost, c.url+"/stop", "")
	if err != nil {
		return nil, err
	}
	return record.Read(bytes.NewReader(out))
}
