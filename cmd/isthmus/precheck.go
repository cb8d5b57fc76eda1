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
	cmd := &cobra.Command{
		Use:   "precheck",
		Short: "Look for what would keep an installation from working; exits with 1 when something would",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
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
	cmd.Flags().StringVarP(&output, "output", "o", "", "json or yaml; lines for people when empty")
	return cmd
}
