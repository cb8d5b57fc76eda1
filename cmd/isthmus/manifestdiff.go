package main

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/install/apply"
	"github.com/isthmus-mesh/isthmus/install/render"
)

// diffFlags say what "manifest diff" compares.
type diffFlags struct {
	recursive, verbose     bool
	sel, ignore, renamings string
}

func newManifestDiffCommand() *cobra.Command {
	d := &diffFlags{}
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Compare two manifests, object by object; exits with 1 when they differ",
		Example: `  isthmus manifest diff before.yaml after.yaml
  isthmus manifest diff -r out-a out-b --ignore ConfigMap:*:istio
  isthmus manifest diff a.yaml b.yaml --rename Deployment::istiod->::istiod-canary`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, b, err := d.load(args, cmd.InOrStdin())
			if err != nil {
				return err
			}
			if printManifestDiff(cmd.OutOrStdout(), a, b, d.verbose) {
				return &exitError{code: 1}
			}
			return nil
		},
	}
	p := cmd.Flags()
	p.BoolVarP(&d.recursive, "directory", "r", false, "compare two directories of manifests")
	p.BoolVarP(&d.verbose, "verbose", "v", false, "also name the objects that are the same")
	p.StringVar(&d.sel, "select", "", "compare only these objects: `KIND:NAMESPACE:NAME`, patterns allowed, separated by commas")
	p.StringVar(&d.ignore, "ignore", "", "leave these objects out, as for --select")
	p.StringVar(&d.renamings, "rename", "", "compare objects of A under another name: `OLD->NEW`, each as for --select")
	return cmd
}

// load reads both sides and applies the filters.
func (d *diffFlags) load(args []string, stdin io.Reader) (a, b []render.Object, err error) {
	sel, err := render.ParseSelectors(d.sel)
	if err != nil {
		return nil, nil, fmt.Errorf("--select: %w", err)
	}
	ignore, err := render.ParseSelectors(d.ignore)
	if err != nil {
		return nil, nil, fmt.Errorf("--ignore: %w", err)
	}
	renamings, err := render.ParseRenamings(d.renamings)
	if err != nil {
		return nil, nil, fmt.Errorf("--rename: %w", err)
	}
	var sides [2][]render.Object
	for i, name := range args {
		objs, err := d.read(name, stdin)
		if err != nil {
			return nil, nil, err
		}
		sides[i] = render.Select(objs, sel, ignore)
	}
	render.Rename(sides[0], renamings)
	return sides[0], sides[1], nil
}

// read returns the objects of a file or, with -r, of a directory's files.
func (d *diffFlags) read(name string, stdin io.Reader) ([]render.Object, error) {
	if !d.recursive {
		data, err := readInput(name, stdin)
		if err != nil {
			return nil, err
		}
		objs, err := render.Decode(data, "")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return objs, nil
	}
	var objs []render.Object
	err := filepath.WalkDir(name, func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(file, ".yaml") && !strings.HasSuffix(file, ".yml") {
			return err
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		got, err := render.Decode(data, "")
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		objs = append(objs, got...)
		return nil
	})
	return objs, err
}

// printManifestDiff reports whether there is a difference.
func printManifestDiff(out io.Writer, a, b []render.Object, verbose bool) bool {
	index := func(objs []render.Object) map[string]render.Object {
		m := map[string]render.Object{}
		for _, o := range objs {
			m[o.ID()] = o
		}
		return m
	}

	am, bm := index(a), index(b)
	ids := maps.Clone(am)
	maps.Copy(ids, bm)
	differ := false
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		x, inA := am[id]
		y, inB := bm[id]
		var lines []string
		switch {
		case !inA:
			lines = []string{"+ only in the second"}
		case !inB:
			lines = []string{"- only in the first"}
		default:
			for _, c := range apply.Changed(x.Object, y.Object) {
				lines = append(lines, c.String())
			}
		}

		if len(lines) == 0 {
			if verbose {
				fmt.Fprintf(out, "%s: the same\n", id)
			}
			continue
		}

		differ = true
		fmt.Fprintf(out, "%s\n", id)
		for _, l := range lines {
			fmt.Fprintf(out, "    %s\n", l)
		}
	}
	return differ
}

// newManifestVersionsCommand names what this binary installs.
func newManifestVersionsCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "versions",
		Short: "Show which versions this binary installs and can take over from",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := supportedVersions()
			if output != "" {
				return printData(cmd.OutOrStdout(), output, v)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Installs:              %s\nIstioOperator API:     %s\nKubernetes:            %s\nConfiguration of:      %s\nUpgrades in place from: %s\n",
				v.Installs, v.API, v.Kubernetes, v.Configuration, v.UpgradesFrom)
			return nil
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "json or yaml; lines for people when empty")
	return cmd
}
