package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/install/apply"
	"github.com/isthmus-mesh/isthmus/version"
)

func newPrecheckCommand(f *kubeFlags) *cobra.Command {
	c := &configFlags{}
	var output string
	var contexts []string
	cmd := &cobra.Command{
		Use:   "precheck",
		Short: "Look for what would keep an installation from working, or clusters from being one mesh; exits with 1 when something would",
		Long: `Looks, in one cluster, for what would keep an installation from working. With
several contexts, it holds clusters against each other that are to be one mesh: root
certificates, trust domains, names, ranges of pods' addresses, gateways, the Secrets
by which they read each other, clocks and versions. Each line says whether that was
seen from here or, by istiod, from inside, and what to do.`,
		Example: `  isthmus x precheck -f my.yaml

  # Before two clusters are joined, and after
  isthmus x precheck --context=cluster1 --context=cluster2`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(contexts) > 1 {
				return checkJoining(cmd.Context(), cmd.OutOrStdout(), f, contexts, output)
			}
			if len(contexts) == 1 {
				f.context = contexts[0]
			}
			config, objs, err := c.objects(cmd.InOrStdin())
			if err != nil {
				return err
			}

			client, err := f.applyClient()
			if err != nil {
				return err
			}
			if config, objs, err = c.beside(cmd.Context(), client, config, objs); err != nil {
				return err
			}
			desired, err := apply.NewDesired(config, objs, version.Version)
			if err != nil {
				return err
			}

			findings, err := client.Precheck(cmd.Context(), desired)
			if err != nil {
				return err
			}
			blocked := false
			for _, n := range findings {
				blocked = blocked || n.Blocks
			}

			out := cmd.OutOrStdout()
			switch {
			case output != "":
				if err := printData(out, output, findings); err != nil {
					return err
				}
			case len(findings) == 0:
				fmt.Fprintln(out, "✔ Nothing stands in the way of an installation")
			default:
				for _, n := range findings {
					mark := "!"
					if n.Blocks {
						mark = "✘"
					}
					fmt.Fprintf(out, "%s %s\n", mark, n.Text)
				}
			}

			if blocked {
				return &exitError{code: 1}
			}
			return nil
		},
	}
	c.add(cmd.Flags())
	// In the place of the flag that all commands have.
	cmd.Flags().StringArrayVar(&contexts, "context", nil, "kubeconfig context to use; several are held against each other (default: the current one)")
	cmd.Flags().StringVarP(&output, "output", "o", "", "json or yaml; lines for people when empty")
	return cmd
}
