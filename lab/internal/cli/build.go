package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/lab/internal/release"
	"github.com/isthmus-mesh/isthmus/lab/internal/spec"
)

func (a *app) buildCommand() *cobra.Command {
	var version string
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Build Kubernetes, etcd, containerd and CoreDNS into the cache",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			programs, err := release.Cluster(version)
			if err != nil {
				return err
			}
			for _, p := range programs {
				dir, err := a.builder().Ensure(cmd.Context(), p)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s %s: %s\n", p.Name, p.Version, dir)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&version, "kubernetes-version", spec.DefaultKubernetes, "Kubernetes version")
	return cmd
}

func (a *app) builder() *release.Builder {
	return &release.Builder{Cache: a.env.CacheDir, Environ: a.env.Environ, Out: a.env.Stderr}
}
