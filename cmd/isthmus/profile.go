package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/api/operator"
	"github.com/isthmus-mesh/isthmus/install/apply"
	"github.com/isthmus-mesh/isthmus/install/values"
)

func newProfileCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "profile",
		Short: "Show the built-in profiles",
	}
	cmd.AddCommand(newProfileListCommand(), newProfileDumpCommand(), newProfileDiffCommand())
	return cmd
}

func newProfileListCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the built-in profiles",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			names := values.Profiles()
			if output != "" {
				return printData(cmd.OutOrStdout(), output, names)
			}
			fmt.Fprintln(cmd.OutOrStdout(), "Profiles:")
			for _, n := range names {
				fmt.Fprintf(cmd.OutOrStdout(), "    %s\n", n)
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "json or yaml; a list for people when empty")
	return cmd
}

func newProfileDumpCommand() *cobra.Command {
	c := &configFlags{}
	var output, path string
	cmd := &cobra.Command{
		Use:   "dump [PROFILE]",
		Short: "Print a profile, or what files and --set make of it, in full",
		Example: `  isthmus profile dump demo
  isthmus profile dump -p components.ingressGateways
  isthmus profile dump -f my.yaml -o json`,
		Args:      cobra.MaximumNArgs(1),
		ValidArgs: values.Profiles(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				if len(c.files) > 0 {
					return fmt.Errorf("give a profile or files with -f, not both")
				}
				c.sets = append([]string{"profile=" + args[0]}, c.sets...)
			}
			config, err := c.resolve(cmd.InOrStdin())
			if err != nil {
				return err
			}
			var data any = document(config.Tree)
			if path != "" {
				if data, err = at(config.Tree, path); err != nil {
					return err
				}
			}
			return printData(cmd.OutOrStdout(), output, data)
		},
	}
	c.add(cmd.Flags())
	cmd.Flags().StringVarP(&output, "output", "o", "yaml", "yaml or json")
	cmd.Flags().StringVarP(&path, "config-path", "p", "", "print what is at this `path` below spec, for example values.global")
	return cmd
}

// document wraps a spec as an IstioOperator.
func document(t operator.Tree) map[string]any {
	return map[string]any{"apiVersion": operator.APIVersion, "kind": operator.Kind, "spec": map[string]any(t)}
}

// at returns the value at a path of keys separated by dots.
func at(t operator.Tree, path string) (any, error) {
	var v any = map[string]any(t)
	for _, key := range strings.Split(path, ".") {
		m, _ := v.(map[string]any)
		var ok bool
		if v, ok = m[key]; !ok {
			return nil, fmt.Errorf("nothing at %s: %s is not set", path, key)
		}
	}
	return v, nil
}

func newProfileDiffCommand() *cobra.Command {
	return &cobra.Command{
		Use:       "diff PROFILE PROFILE",
		Short:     "Show how two profiles, or two IstioOperator files, differ; exits with 1 when they do",
		Args:      cobra.ExactArgs(2),
		ValidArgs: values.Profiles(),
		RunE: func(cmd *cobra.Command, args []string) error {
			var trees [2]operator.Tree
			for i, name := range args {
				c := configFlags{}
				if slices.Contains(values.Profiles(), name) {
					c.sets = []string{"profile=" + name}
				} else {
					c.files = []string{name}
				}
				config, err := c.resolve(cmd.InOrStdin())
				if err != nil {
					return err
				}
				trees[i] = config.Tree
			}
			delete(trees[0], "profile")
			delete(trees[1], "profile")
			diff := apply.Changed(trees[0], trees[1])
			for _, d := range diff {
				fmt.Fprintln(cmd.OutOrStdout(), d)
			}
			if len(diff) > 0 {
				return &exitError{code: 1}
			}
			return nil
		},
	}
}
