package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/install/apply"
	"github.com/isthmus-mesh/isthmus/install/revision"
	"github.com/isthmus-mesh/isthmus/version"
)

func newUpgradeCommand(f *kubeFlags) *cobra.Command {
	i := &installFlags{}
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Bring an installation to this binary's version, in place or beside the old one",
		Long: `In place: applies the configuration that is installed, with the given files and
settings over it, at this binary's version.

Beside: with --revision of a new name, installs a second control plane; then
"upgrade move" takes namespaces over to it, one by one, and back.`,
		Example: `  # In place
  isthmus upgrade

  # Beside: install, move, and when all is well remove the old one
  isthmus upgrade --revision v2
  isthmus upgrade move --revision v2 shop
  isthmus upgrade move --revision v2 --all --from default
  isthmus uninstall --revision default`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := f.applyClient()
			if err != nil {
				return err
			}
			if err := i.startFromInstalled(cmd.Context(), client, cmd.OutOrStdout()); err != nil {
				return err
			}
			return i.run(cmd, f)
		},
	}
	i.add(cmd.Flags())
	cmd.AddCommand(newUpgradeMoveCommand(f))
	return cmd
}

// startFromInstalled puts the installed configuration below what the user gave.
func (i *installFlags) startFromInstalled(ctx context.Context, client *apply.Client, out io.Writer) error {
	invs, err := client.Inventories(ctx)
	if err != nil {
		return err
	}
	// An addition is upgraded by installing it again.
	invs = slices.DeleteFunc(invs, func(inv apply.Inventory) bool { return inv.Revision == operatorRevision || inv.Addition != "" })

	// In place when the revision is installed; else beside the default one, or
	// the only one.
	at := -1
	for _, rev := range []string{i.config.revision, api.DefaultRevision} {
		if at < 0 && rev != "" {
			at = slices.IndexFunc(invs, func(inv apply.Inventory) bool { return inv.Revision == rev })
		}
	}
	if at < 0 && len(invs) == 1 {
		at = 0
	}
	if at < 0 {
		return fmt.Errorf("nothing to upgrade from: no revision %q, and %d revisions are installed; use install", api.DefaultRevision, len(invs))
	}

	doc, err := installedDocument(invs[at])
	if err != nil {
		return err
	}
	i.config.inputs = append([]input{doc}, i.config.inputs...)
	fmt.Fprintf(out, "Upgrade from version %s (revision %s) to %s\n", invs[at].Version, invs[at].Revision, version.Version)
	if i.config.revision == "" {
		i.config.revision = invs[at].Revision
	}
	return nil
}

// newUpgradeMoveCommand moves namespaces between revisions.
func newUpgradeMoveCommand(f *kubeFlags) *cobra.Command {
	var to, from string
	var all bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "move NAMESPACE...",
		Short: "Move namespaces to another revision, one by one; one that does not come up goes back",
		Example: `  isthmus upgrade move --revision v2 shop cart
  isthmus upgrade move --revision v2 --all --from default

  # And back
  isthmus upgrade move --revision default shop`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return fmt.Errorf("name namespaces, or give --all with --from")
			}
			cfg, err := f.restConfig()
			if err != nil {
				return err
			}
			client, err := kubernetes.NewForConfig(cfg)
			if err != nil {
				return err
			}
			if err := revisionRuns(cmd.Context(), f, to); err != nil {
				return err
			}
			if all {
				if args, err = revision.Namespaces(cmd.Context(), client, from); err != nil {
					return err
				}
			}
			for _, ns := range args {
				start := time.Now()
				if err := revision.Move(cmd.Context(), client, ns, to, timeout); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "✔ Namespace %s is on revision %s (%.1f s)\n", ns, to, time.Since(start).Seconds())
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&to, "revision", "r", "", "the `revision` to move to")
	cmd.Flags().StringVar(&from, "from", api.DefaultRevision, "with --all: the `revision` to move from")
	cmd.Flags().BoolVar(&all, "all", false, "every namespace of the revision given by --from")
	cmd.Flags().DurationVar(&timeout, "readiness-timeout", 5*time.Minute, "how long a namespace's workloads may take")
	_ = cmd.MarkFlagRequired("revision")
	return cmd
}

// revisionRuns refuses a move to a control plane that is not there.
func revisionRuns(ctx context.Context, f *kubeFlags, rev string) error {
	client, err := f.applyClient()
	if err != nil {
		return err
	}
	invs, err := client.Inventories(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, inv := range invs {
		if inv.Revision == rev {
			return nil
		}
		names = append(names, inv.Revision)
	}
	return fmt.Errorf("revision %q is not installed; installed are: %s", rev, strings.Join(names, ", "))
}
