// Command bench measures Isthmus beside others. `make bench` runs all of it and
// writes docs/performance.md and bench/results.json; see that document for what
// is measured, and how.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/bench/clusters"
	"github.com/isthmus-mesh/isthmus/bench/upstream"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use: "bench", Short: "Measure Isthmus beside others",
		SilenceUsage: true, SilenceErrors: true,
	}
	root.AddCommand(newRunCommand(), newProxiesCommand(), newControlCommand(), newUpstreamCommand(), newFailoverCommand())
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// newControlCommand is the control plane of a run over API servers.
func newControlCommand() *cobra.Command {
	return &cobra.Command{
		Use: "control FILE", Short: "Run the control plane over simulated API servers", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return clusters.Control(cmd.Context(), args[0]) },
	}
}

// newUpstreamCommand is the servers behind the proxies of a run.
func newUpstreamCommand() *cobra.Command {
	return &cobra.Command{
		Use: "upstream", Short: "Serve HTTP/1.1, HTTP/2, gRPC and a TCP sink", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return upstream.Run(cmd.Context(), make(chan struct{}))
		},
	}
}
