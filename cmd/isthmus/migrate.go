package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/api/operator"
)

func newManifestMigrateCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "migrate [FILE]",
		Short: "Turn Helm values or an older configuration into an IstioOperator",
		Long: `Reads Helm values of Istio's charts, an IstioControlPlane or an older
IstioOperator from a file or standard input, and prints an IstioOperator for this
version. What has no place in it is left out and named on standard error.`,
		Example: `  isthmus manifest migrate values.yaml > operator.yaml`,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := "-"
			if len(args) > 0 {
				name = args[0]
			}
			data, err := readInput(name, cmd.InOrStdin())
			if err != nil {
				return err
			}
			m, err := operator.Migrate(data)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			for _, d := range m.Dropped {
				fmt.Fprintln(cmd.ErrOrStderr(), "left out:", d)
			}
			return printData(cmd.OutOrStdout(), "yaml", document(m.Spec))
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "accepted for compatibility: what cannot be kept is left out either way")
	_ = cmd.Flags().MarkHidden("force")
	return cmd
}
