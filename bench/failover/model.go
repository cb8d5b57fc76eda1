package failover

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
)

// Model is how two clusters on two networks are one mesh.
type Model string

const (
	// Shared is one control plane, in the near cluster, that reads both.
	Shared Model = "shared"
	// Replicated is a control plane in each cluster, strangers to each other.
	Replicated Model = "replicated"
)

// Models are all of them.
var Models = []Model{Shared, Replicated}

// The steps of setting up, in bash.
var (
	//go:embed setup/authorities.sh
	authorities string
	//go:embed setup/shared.sh
	installShared string
	//go:embed setup/replicated.sh
	installReplicated string
	//go:embed setup/pass-local.yaml
	passLocal string
	//go:embed setup/join.sh
	joinReplicated string
)

// NewScene is the scene of a model in a lab's clusters.
func NewScene(l *Lab, m Model) *Scene {
	return &Scene{
		Lab: l, Model: m, Gateway: "istio-ingressgateway", Replicas: 5, URL: "http://target.failover:8080/work",
		Near: Cluster{"cluster-1", "region-1"}, Far: Cluster{"cluster-2", "region-2"},
	}
}

// Install makes the two clusters one mesh. Certificates and files are put into dir.
func (s *Scene) Install(ctx context.Context, dir string) error {
	install := installShared
	if s.Model == Replicated {
		install = installReplicated
	}
	certs := filepath.Join(dir, string(s.Model))
	if err := os.MkdirAll(certs, 0o755); err != nil {
		return err
	}
	if _, err := s.run(ctx, authorities+install, "CERTS="+certs, "PASS_LOCAL="+passLocal); err != nil {
		return fmt.Errorf("install the model %s: %w", s.Model, err)
	}
	return nil
}

// installed reports whether a mesh is there.
func (s *Scene) installed(ctx context.Context) bool {
	_, err := s.run(ctx, `kubectl --context "$FAR" get deploy -n istio-system istiod`)
	return err == nil
}

// PassLocal has the gateways of both clusters pass on what is for Services, as
// Install does.
func (s *Scene) PassLocal(ctx context.Context) error {
	return s.both(ctx, func(ctx context.Context, c Cluster) error {
		_, err := s.run(ctx, `kubectl apply --context "$CLUSTER" -f - <<<"$PASS_LOCAL"`, "CLUSTER="+c.Context, "PASS_LOCAL="+passLocal)
		return err
	})
}

// Uninstall takes mesh and scene out of both clusters.
func (s *Scene) Uninstall(ctx context.Context) error {
	return s.both(ctx, func(ctx context.Context, c Cluster) error {
		_, err := s.run(ctx, `istioctl uninstall --context "$CLUSTER" --purge -y
kubectl --context "$CLUSTER" delete namespace istio-system failover --ignore-not-found --wait --timeout=120s`, "CLUSTER="+c.Context)
		return err
	})
}
