package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/install/apply"
)

func newUninstallCommand(f *kubeFlags) *cobra.Command {
	c := &configFlags{}
	var purge, yes, dryRun bool
	var leave []string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove a revision of the mesh, or all of it, from a cluster",
		Long: `Removes what the inventories of the revision name and no other revision has, or
what was installed by a file of its own (-f) beside the control plane. The
CRDs, and with them the resources that you wrote, stay unless --purge is given;
the Secret cacerts always stays.`,
		Example: `  isthmus uninstall --revision canary
  isthmus uninstall --purge

  # Take cluster3 out of the mesh: the control plane of cluster1 reads it no longer
  isthmus uninstall --context=cluster3 --purge --leave=cluster1

  # One gateway that was installed by a file of its own
  isthmus uninstall -f eastwest.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			revision, addition, err := c.toRemove(cmd.InOrStdin())
			if err != nil {
				return err
			}
			if purge && (c.revision != "" || len(c.files) > 0) {
				return fmt.Errorf("--purge removes every revision; give no --revision or -f with it")
			}
			if addition != "" && len(leave) > 0 {
				return fmt.Errorf("--leave: the cluster does not leave the mesh when %s is removed; leave out -f", addition)
			}

			client, err := f.applyClient()
			if err != nil {
				return err
			}
			if err := noOperator(cmd.Context(), client); err != nil {
				return err
			}

			removal, err := client.PlanRemoval(cmd.Context(), revision, addition, purge)
			if err != nil {
				return err
			}

			leaving, err := planLeaving(cmd.Context(), f, leave)
			if err != nil {
				return err
			}

			out := cmd.OutOrStdout()
			printRemoval(out, removal, dryRun)
			leaving.print(out)
			if dryRun {
				return nil
			}
			if !yes && !agreed(cmd.InOrStdin(), out, "Proceed?") {
				return fmt.Errorf("not confirmed; nothing was changed")
			}

			// Others forget the cluster first: until they do, they send it requests.
			start := time.Now()
			if err := leaving.run(cmd.Context()); err != nil {
				return err
			}
			planned := len(removal.Kept)
			if err := client.Remove(cmd.Context(), removal, apply.Options{Timeout: timeout}); err != nil {
				return err
			}
			for _, k := range removal.Kept[planned:] {
				fmt.Fprintf(out, "  stays  %s\n", k)
			}
			fmt.Fprintf(out, "✔ Uninstall complete (%.1f s)\n", time.Since(start).Seconds())
			return nil
		},
	}
	c.add(cmd.Flags())
	cmd.Flags().BoolVar(&purge, "purge", false, "remove every revision, the CRDs with the resources of their kinds, and what the control planes wrote")
	cmd.Flags().BoolVarP(&yes, "skip-confirmation", "y", false, "do not ask before changing the cluster")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would be removed and touch nothing")
	cmd.Flags().StringSliceVar(&leave, "leave", nil, "contexts of clusters whose control planes read this one: delete the Secrets by which they do")
	cmd.Flags().DurationVar(&timeout, "readiness-timeout", 5*time.Minute, "how long to wait until everything is gone")
	return cmd
}

// toRemove is the revision that the flags or the files name, and the addition to it
// that the files are about; "" for all of the revision.
func (c *configFlags) toRemove(stdin io.Reader) (revision, addition string, err error) {
	if len(c.files) == 0 {
		return cmp.Or(c.revision, api.DefaultRevision), "", nil
	}
	config, err := c.resolve(stdin)
	if err != nil {
		return "", "", err
	}
	return config.Revision, config.Addition, nil
}

// noOperator refuses where the operator would put back what is removed.
func noOperator(ctx context.Context, client *apply.Client) error {
	invs, err := client.Inventories(ctx)
	if err != nil {
		return err
	}
	for _, inv := range invs {
		if inv.Revision == operatorRevision {
			return fmt.Errorf("the operator in namespace %s would put back what is removed; delete its IstioOperator resources, or run operator remove (with --purge to remove the mesh as well)", inv.Namespace)
		}
	}
	return nil
}

func printRemoval(out io.Writer, r *apply.Removal, detailed bool) {
	fmt.Fprintf(out, "Plan: %d objects to delete\n", len(r.Entries))
	if detailed {
		for _, e := range r.Entries {
			fmt.Fprintf(out, "  delete %s\n", e.ID())
		}
	}
	for _, id := range r.UserResources {
		fmt.Fprintf(out, "  delete %s, with its CRD\n", id)
	}
	for _, k := range r.Kept {
		fmt.Fprintf(out, "  stays  %s\n", k)
	}
}
