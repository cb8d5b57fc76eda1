package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/lab/internal/bringup"
	"github.com/isthmus-mesh/isthmus/lab/internal/plan"
	"github.com/isthmus-mesh/isthmus/lab/internal/preflight"
)

func (a *app) upCommand() *cobra.Command {
	request := bringup.Request{}
	var network string
	var programs programOptions
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Make the lab run: get the programs that are missing, create or repair the clusters",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := preflight.Check(a.env.Root, preflight.Lookup); err != nil {
				return err
			}

			l, err := a.bringup()
			if err != nil {
				return err
			}
			if l.Store, err = a.store(programs); err != nil {
				return err
			}

			preflight.RaiseWatchLimit(a.env.Stdout)
			request.Name, request.Network, request.FromSource = a.name, plan.Network(network), programs.fromSource
			if err := l.Up(cmd.Context(), request); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "use it:    eval \"$(%s)\"\nremove it: %s\n", a.self("env"), a.self("down"))
			return nil
		},
	}

	f := cmd.Flags()
	f.IntVar(&request.Clusters, "clusters", 0, fmt.Sprintf("number of clusters (default %d)", bringup.DefaultClusters))
	f.StringVar(&network, "network", "", fmt.Sprintf("%q: clusters reach each other's node and load-balancer addresses; %q: pods reach pods (default %q)", plan.MultiNetwork, plan.SingleNetwork, bringup.DefaultNetwork))
	f.BoolVar(&request.SameRanges, "same-ranges", false, "give every cluster the same pod and service ranges, as clusters have that nobody planned together (not with --network single)")
	f.StringVar(&request.Kubernetes, "kubernetes-version", "", "Kubernetes version (default "+plan.DefaultKubernetes+")")
	f.StringVar(&request.KubernetesBin, "kubernetes-bin", "", "directory of ready-made Kubernetes binaries to use before all others")
	programs.addTo(f)
	return cmd
}

func (a *app) downCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Remove the lab, whatever state it is in",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.needRoot("removing a lab"); err != nil {
				return err
			}
			l, err := a.bringup()
			if err != nil {
				return err
			}
			return l.Down(cmd.Context(), a.name)
		},
	}
}

func (a *app) depsCommand() *cobra.Command {
	var install bool
	cmd := &cobra.Command{
		Use:   "deps",
		Short: "Name the Debian packages that are missing, or install them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			missing := append(preflight.Missing(preflight.Lookup), preflight.MissingForSamples(preflight.Lookup)...)
			if install {
				return preflight.Install(cmd.Context(), a.env.Environ, missing, cmd.ErrOrStderr())
			}
			if err := preflight.Packages(missing); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "nothing is missing")
			return nil
		},
	}

	cmd.Flags().BoolVar(&install, "install", false, "install them with apt-get")
	return cmd
}

// bringup is the lab that the global flags name.
func (a *app) bringup() (*bringup.Lab, error) {
	p, err := a.paths()
	if err != nil {
		return nil, err
	}
	return &bringup.Lab{Paths: p, Out: a.env.Stdout}, nil
}

func (a *app) needRoot(what string) error {
	if !a.env.Root {
		return fmt.Errorf("%s takes root: run it with sudo", what)
	}
	return nil
}
