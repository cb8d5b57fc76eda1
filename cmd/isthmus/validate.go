package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/install/validate"
)

// newValidateCommand checks files before they are applied.
func newValidateCommand(f *kubeFlags) *cobra.Command {
	v := &validation{kube: f}
	cmd := &cobra.Command{
		Use:     "validate -f FILE|DIRECTORY",
		Aliases: []string{"v"},
		Short:   "Check files before they are applied, without a cluster",
		Long: `Says of every object in the files what the mesh's webhook would say of it when it is
applied, and of an IstioOperator what the installer would; no cluster is asked. Objects
of other kinds are passed over. Of a directory all files are read that end in .yaml,
.yml or .json, those in directories below it too.

What depends on the rest of the cluster is not seen: hosts that others have, Services
that there are not.

The command fails when an object would be refused.`,
		Example: `  isthmus validate -f samples/
  isthmus validate -f web.yaml -f gateway.yaml
  kubectl get vs,dr,se,gw -A -o yaml | isthmus validate -f - -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return v.run(cmd) },
	}
	cmd.Flags().StringArrayVarP(&v.files, "filename", "f", nil, "file or directory, - for standard input; may be given again")
	cmd.Flags().StringVarP(&v.output, "output", "o", "", "json or yaml; lines for people when empty")
	cobra.CheckErr(cmd.MarkFlagRequired("filename"))
	return cmd
}

type validation struct {
	kube   *kubeFlags
	files  []string
	output string
}

func (v *validation) run(cmd *cobra.Command) error {
	if v.output != "" && v.output != "json" && v.output != "yaml" {
		return fmt.Errorf("output format %q: json and yaml are possible", v.output)
	}

	found, err := v.read(cmd.InOrStdin())
	if v.output != "" {
		err = errors.Join(err, printData(cmd.OutOrStdout(), v.output, found))
	} else {
		printValidation(cmd.OutOrStdout(), cmd.ErrOrStderr(), found)
	}
	if err != nil {
		return err
	}
	if slices.ContainsFunc(found, func(f validate.Finding) bool { return f.Error != "" }) {
		return &exitError{code: 1}
	}
	return nil
}

// read checks all files; the error tells of those that could not be read.
func (v *validation) read(stdin io.Reader) ([]validate.Finding, error) {
	namespace := v.kube.ns
	if namespace == "" {
		namespace = "default"
	}
	found := []validate.Finding{}
	var failed error
	check := func(name string, in io.Reader) {
		more, err := validate.Read(name, in, namespace)
		found, failed = append(found, more...), errors.Join(failed, err)
	}

	for _, name := range v.files {
		if name == "-" {
			check("standard input", stdin)
			continue
		}
		paths, err := filesBelow(name)
		failed = errors.Join(failed, err)
		for _, path := range paths {
			file, err := os.Open(path)
			if err != nil {
				failed = errors.Join(failed, err)
				continue
			}
			check(path, file)
			file.Close()
		}
	}
	return found, failed
}

// filesBelow is the file itself, or the files of a directory that hold objects.
func filesBelow(name string) ([]string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{name}, nil
	}

	var out []string
	err = filepath.WalkDir(name, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch filepath.Ext(path) {
		case ".yaml", ".yml", ".json":
			if !d.IsDir() {
				out = append(out, path)
			}
		}
		return nil
	})
	if err == nil && len(out) == 0 {
		err = fmt.Errorf("directory %s has no file that ends in .yaml, .yml or .json", name)
	}
	return out, err
}

// printValidation says of each file that it is valid, or what is wrong in it.
func printValidation(out, errOut io.Writer, found []validate.Finding) {
	for len(found) > 0 {
		file := found[0].File
		n := slices.IndexFunc(found, func(f validate.Finding) bool { return f.File != file })
		if n < 0 {
			n = len(found)
		}

		valid := true
		for _, f := range found[:n] {
			for _, w := range f.Warnings {
				fmt.Fprintf(errOut, "Warning: %s: %s\n", f.String(), w)
			}
			if f.Error != "" {
				valid = false
				fmt.Fprintf(errOut, "Error: %s: %s\n", f.String(), f.Error)
			}
		}
		if valid {
			fmt.Fprintf(out, "%q is valid\n", file)
		}
		found = found[n:]
	}
}
