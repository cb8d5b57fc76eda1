package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/isthmus-mesh/isthmus/charts"
	"github.com/isthmus-mesh/isthmus/install/apply"
	"github.com/isthmus-mesh/isthmus/install/render"
	"github.com/isthmus-mesh/isthmus/install/values"
	"github.com/isthmus-mesh/isthmus/version"
)

// configFlags say what is to be installed.
type configFlags struct {
	files     []string
	sets      []string
	chartsDir string
	revision  string
	// inputs are documents that were read already, the first read of files
	// among them; they come before the other files.
	inputs []input
	read   int
}

// input is a document and where it came from.
type input struct {
	name string
	data []byte
}

func (c *configFlags) add(p *pflag.FlagSet) {
	p.StringArrayVarP(&c.files, "filename", "f", nil, "IstioOperator `file`, \"-\" for standard input; later files are laid over earlier ones")
	p.StringArrayVarP(&c.sets, "set", "s", nil, "one `path=value` below spec, for example profile=demo or components.pilot.k8s.replicaCount=2")
	p.StringVarP(&c.chartsDir, "charts", "d", "", "`directory` of charts to render instead of the built-in ones")
	p.StringVarP(&c.revision, "revision", "r", "", "name of a control plane that stands beside others")
	// The spelling of Istio 1.6.
	p.StringVar(&c.chartsDir, "manifests", "", "same as --charts")
	_ = p.MarkHidden("manifests")
}

// resolve reads the files, each once, and merges all that was given.
func (c *configFlags) resolve(stdin io.Reader) (*values.Config, error) {
	for ; c.read < len(c.files); c.read++ {
		data, err := readInput(c.files[c.read], stdin)
		if err != nil {
			return nil, err
		}
		c.inputs = append(c.inputs, input{c.files[c.read], data})
	}

	in := values.Input{Sets: c.sets, Revision: c.revision, Hub: version.DefaultHub, Tag: version.Version}
	for _, i := range c.inputs {
		in.Files = append(in.Files, values.File{Name: i.name, Data: i.data})
	}
	return values.Resolve(in)
}

// readInput reads a file, or standard input when the name is "-".
func readInput(name string, stdin io.Reader) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(stdin)
	}
	return os.ReadFile(name)
}

// chartFS is where the charts are read from.
func (c *configFlags) chartFS() fs.FS {
	if c.chartsDir != "" {
		return os.DirFS(c.chartsDir)
	}
	return charts.FS
}

// objects renders what the flags describe.
func (c *configFlags) objects(stdin io.Reader) (*values.Config, []render.Object, error) {
	config, err := c.resolve(stdin)
	if err != nil {
		return nil, nil, err
	}
	objs, err := render.Render(config, c.chartFS())
	return config, objs, err
}

// beside lays an addition over the settings of the control plane that is
// installed, and renders it again; anything else comes back as it is.
func (c *configFlags) beside(ctx context.Context, client *apply.Client, config *values.Config, objs []render.Object) (*values.Config, []render.Object, error) {
	base, err := client.Beside(ctx, config)
	if base == nil || err != nil {
		return config, objs, err
	}
	c.inputs = append([]input{{base.Name, base.Data}}, c.inputs...)
	return c.objects(nil)
}

func newManifestCommand(f *kubeFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "manifest",
		Short: "Render and apply what an installation consists of",
	}
	cmd.AddCommand(newManifestGenerateCommand(), newInstallCommand(f, "apply"),
		newManifestDiffCommand(), newManifestMigrateCommand(), newManifestVersionsCommand())
	return cmd
}

func newManifestGenerateCommand() *cobra.Command {
	c := &configFlags{}
	var out string
	var force bool
	cmd := &cobra.Command{
		Use:   "generate",
		Short: "Print the manifest of an installation, in the order to apply it in",
		Example: `  # What the default profile installs
  isthmus manifest generate > istio-default.yaml

  # With changes, one file per component
  isthmus manifest generate -f my.yaml --set meshConfig.accessLogFile=/dev/stdout -o out/`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, objs, err := c.objects(cmd.InOrStdin())
			if err != nil {
				return err
			}
			warn(cmd.ErrOrStderr(), config)
			if out != "" {
				return writeComponents(out, objs)
			}
			text, err := render.YAML(objs)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	c.add(cmd.Flags())
	cmd.Flags().StringVarP(&out, "output", "o", "", "`directory` to write one file per component into")
	cmd.Flags().BoolVar(&force, "force", false, "accepted for compatibility: there is nothing to force")
	_ = cmd.Flags().MarkHidden("force")
	return cmd
}

// warn tells of settings that are taken and change nothing.
func warn(out io.Writer, c *values.Config) {
	for _, w := range c.Warnings {
		fmt.Fprintln(out, "warning:", w)
	}
}

// writeComponents writes one file per component into a directory.
func writeComponents(dir string, objs []render.Object) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var order []string
	byComponent := map[string][]render.Object{}
	for _, o := range objs {
		if byComponent[o.Component] == nil {
			order = append(order, o.Component)
		}
		byComponent[o.Component] = append(byComponent[o.Component], o)
	}
	for _, name := range order {
		text, err := render.YAML(byComponent[name])
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), text, 0o644); err != nil {
			return fmt.Errorf("component %s: %w", name, err)
		}
	}
	return nil
}
