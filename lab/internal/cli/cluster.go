package cli

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/lab/internal/agent"
	"github.com/isthmus-mesh/isthmus/lab/internal/plan"
	"github.com/isthmus-mesh/isthmus/lab/internal/reach"
)

func (a *app) stopCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "stop CLUSTER",
		Short: "Switch a cluster off, as a power cut does; its disk stays",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, _, _, err := a.loadCluster(args[0])
			if err != nil {
				return err
			}
			if err := agent.NewClient(p).Stop(cmd.Context(), args[0]); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is off\n", args[0])
			return nil
		},
	}
}

func (a *app) startCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "start CLUSTER",
		Short: "Switch a cluster on again and wait until it serves",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, lab, c, err := a.loadCluster(args[0])
			if err != nil {
				return err
			}
			l, err := a.bringup()
			if err != nil {
				return err
			}
			return l.Raise(cmd.Context(), lab, c)
		},
	}
}

func (a *app) execCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "exec CLUSTER -- COMMAND...",
		Short: "Run a command on a cluster's node",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.needRoot("entering a node"); err != nil {
				return err
			}

			p, lab, c, err := a.loadCluster(args[0])
			if err != nil {
				return err
			}

			node, err := reach.Find(p, lab, c)
			if err != nil {
				return err
			}

			run := node.Command(cmd.Context(), args[1:]...)
			run.Stdin, run.Stdout, run.Stderr = a.env.Stdin, a.env.Stdout, a.env.Stderr
			err = run.Run()
			if exit := new(exec.ExitError); errors.As(err, &exit) {
				return exitStatus(exit.ExitCode())
			}
			return err
		},
	}
}

func (a *app) loadImageCommand() *cobra.Command {
	var only []string
	cmd := &cobra.Command{
		Use:   "load-image TAR...",
		Short: "Load image archives into the clusters",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.loadImages(cmd, only, args)
		},
	}
	cmd.Flags().StringSliceVar(&only, "cluster", nil, "clusters to load into (default all that run)")
	return cmd
}

// loadImages loads archives into the clusters named, or into all.
func (a *app) loadImages(cmd *cobra.Command, only, files []string) error {
	if err := a.needRoot("loading images"); err != nil {
		return err
	}

	p, lab, err := a.load()
	if err != nil {
		return err
	}

	nodes, names, err := findNodes(p, lab, only)
	if err != nil {
		return err
	}

	group, ctx := errgroup.WithContext(cmd.Context())
	for _, node := range nodes {
		group.Go(func() error {
			for _, file := range files {
				if err := node.LoadImage(ctx, file); err != nil {
					return err
				}
			}
			return nil
		})
	}

	if err := group.Wait(); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "loaded %d images into %s\n", len(files), strings.Join(names, ", "))
	return nil
}

// findNodes returns the nodes of the clusters named, or, when none is, of all
// that run.
func findNodes(p plan.Paths, lab *plan.Lab, only []string) (nodes []*reach.Node, names []string, err error) {
	chosen := lab.Clusters
	if len(only) > 0 {
		chosen = nil
	}

	for _, name := range slices.Compact(slices.Sorted(slices.Values(only))) {
		c, err := lab.Cluster(name)
		if err != nil {
			return nil, nil, err
		}
		chosen = append(chosen, c)
	}

	var last error
	for _, c := range chosen {
		node, err := reach.Find(p, lab, c)
		if err != nil {
			if len(only) > 0 {
				return nil, nil, err
			}
			last = err
			continue
		}
		nodes, names = append(nodes, node), append(names, c.Name())
	}

	if len(nodes) == 0 {
		return nil, nil, last
	}
	return nodes, names, nil
}
