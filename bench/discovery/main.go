// Command discovery is the control plane of a run of bench: a made-up mesh, served
// over xDS. It is a program of its own and no command of bench, because its memory
// is one of the figures: bench links Kubernetes's client and types as well, to
// measure several clusters, and they would count for 20 MB here.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/isthmus-mesh/isthmus/test/rig/mesh"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/discovery:", err)
		os.Exit(1)
	}
}

// run serves the mesh that a file describes (mesh.Config as JSON) until ctx ends.
func run(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("give one argument, the file that describes the mesh; bench writes it and starts this program")
	}
	data, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	var cfg mesh.Config
	if err := json.Unmarshal(data, &cfg); err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}

	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	listen := func(addr string) (net.Listener, error) { return net.Listen("tcp", addr) }
	return mesh.Run(ctx, cfg, log, listen)
}
