package clusters

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/kube"
	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/test/rig/apiserver"
)

// Config is what the control plane under measurement is started with.
type Config struct {
	// Kubeconfig leads to the API server of its own cluster.
	Kubeconfig []byte
	// XDS takes streams in plaintext, Monitoring serves /metrics and /ready;
	// HOST:PORT each.
	XDS, Monitoring string
}

// Control runs the control plane that a file describes until ctx ends.
func Control(ctx context.Context, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var cfg Config
	if err := json.Unmarshal(data, &cfg); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}

	rest, err := apiserver.ConfigOf(cfg.Kubeconfig)
	if err != nil {
		return err
	}
	clients, err := kube.NewClients(rest)
	if err != nil {
		return err
	}

	c := discovery.Default()
	c.Clients, c.Pod = clients, "istiod-0"
	c.Namespace = controlNamespace
	c.Cluster, c.Network = model.ClusterID(clusterName(0)), network(0)
	c.Listen = discovery.Addresses{PlainXDS: cfg.XDS, Monitoring: cfg.Monitoring}
	c.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	server, err := discovery.New(c)
	if err != nil {
		return err
	}
	return server.Run(ctx)
}
