package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/api/operator"
	"github.com/isthmus-mesh/isthmus/install/apply"
	"github.com/isthmus-mesh/isthmus/install/render"
	"github.com/isthmus-mesh/isthmus/install/verify"
)

func newVerifyInstallCommand(f *kubeFlags) *cobra.Command {
	c := &configFlags{}
	var output string
	cmd := &cobra.Command{
		Use:   "verify-install",
		Short: "Hold the cluster against what was installed; exits with 1 on a difference",
		Long: `Without -f, checks every object of the installed revision against the inventory
that install left. With -f, checks the objects of a manifest, or of what an
IstioOperator file stands for.`,
		Example: `  isthmus verify-install
  isthmus verify-install -f istio-default.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := f.applyClient()
			if err != nil {
				return err
			}
			objs, err := c.expected(cmd.Context(), client, cmd.InOrStdin())
			if err != nil {
				return err
			}

			results, err := verify.Objects(cmd.Context(), client, objs)
			if err != nil {
				return err
			}

			// On the other stream: what is printed may be JSON.
			warnUnheeded(cmd.Context(), cmd.ErrOrStderr(), client)
			return printResults(cmd.OutOrStdout(), results, output)
		},
	}
	c.add(cmd.Flags())
	cmd.Flags().StringVarP(&output, "output", "o", "", "json or yaml; lines for people when empty")
	return cmd
}

// expected lists the objects that should be in the cluster.
func (c *configFlags) expected(ctx context.Context, client *apply.Client, stdin io.Reader) ([]render.Object, error) {
	if len(c.files) == 0 && len(c.sets) == 0 {
		return installed(ctx, client, c.revision)
	}

	var objs []render.Object
	operators := configFlags{sets: c.sets, chartsDir: c.chartsDir, revision: c.revision}
	for _, name := range c.files {
		data, err := readInput(name, stdin)
		if err != nil {
			return nil, err
		}
		if isOperator(data) {
			operators.inputs = append(operators.inputs, input{name, data})
			continue
		}
		got, err := render.Decode(data, "")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		objs = append(objs, got...)
	}

	if len(operators.inputs) > 0 || len(c.sets) > 0 {
		config, got, err := operators.objects(stdin)
		if err == nil {
			_, got, err = operators.beside(ctx, client, config, got)
		}
		if err != nil {
			return nil, err
		}
		objs = append(objs, got...)
	}

	if len(objs) == 0 {
		return nil, fmt.Errorf("nothing to verify: the files hold no objects")
	}
	return objs, nil
}

// isOperator reports whether a file is an IstioOperator and not a manifest.
func isOperator(data []byte) bool {
	var head struct {
		Kind string `json:"kind"`
	}
	return yaml.Unmarshal(data, &head) == nil && head.Kind == operator.Kind
}

// installed lists what the inventories say was installed: one revision's, or
// all.
func installed(ctx context.Context, client *apply.Client, revision string) ([]render.Object, error) {
	invs, err := client.Inventories(ctx)
	if err != nil {
		return nil, err
	}
	var objs []render.Object
	for _, inv := range invs {
		if revision != "" && inv.Revision != revision {
			continue
		}
		for _, e := range inv.Entries {
			if e.Intent != nil {
				objs = append(objs, render.Object{Unstructured: e.Intent, Component: e.Component})
			}
		}
	}
	if len(objs) == 0 {
		if revision != "" {
			return nil, fmt.Errorf("revision %q is not installed", revision)
		}
		return nil, fmt.Errorf("nothing is installed here by isthmus install; to check objects that came another way, give their manifest with -f")
	}
	render.Sort(objs)
	return objs, nil
}

// printResults writes a line per object, and what is wrong with it.
func printResults(out io.Writer, results []verify.Result, format string) error {
	bad := 0
	for _, r := range results {
		if len(r.Problems) > 0 {
			bad++
		}
	}
	if format != "" {
		if err := printData(out, format, results); err != nil {
			return err
		}
	} else {
		for _, r := range results {
			if len(r.Problems) == 0 {
				fmt.Fprintf(out, "✔ %s\n", r.ID)
				continue
			}
			fmt.Fprintf(out, "✘ %s\n", r.ID)
			for _, p := range r.Problems {
				fmt.Fprintf(out, "    %s\n", p)
			}
		}
		if bad == 0 {
			fmt.Fprintf(out, "Verified: all %d objects are as they should be\n", len(results))
		} else {
			fmt.Fprintf(out, "Not as installed: %d of %d objects\n", bad, len(results))
		}
	}
	if bad > 0 {
		return &exitError{code: 1}
	}
	return nil
}
