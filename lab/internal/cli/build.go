package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/isthmus-mesh/isthmus/lab/internal/fetch"
	"github.com/isthmus-mesh/isthmus/lab/internal/plan"
	"github.com/isthmus-mesh/isthmus/lab/internal/release"
)

// Variables of the environment that stand for flags, so that a team's machines
// can be told once.
const (
	mirrorVariable    = "ISTHMUS_LAB_MIRROR"
	checksumsVariable = "ISTHMUS_LAB_CHECKSUM_FILE"
)

// programOptions say where programs come from.
type programOptions struct {
	mirror       string
	checksumFile string
	fromSource   bool
}

func (o *programOptions) addTo(f *pflag.FlagSet) {
	f.StringVar(&o.mirror, "mirror", "", "URL to download programs from instead of their makers' sites (or $"+mirrorVariable+"); lab/README.md has its layout")
	f.StringVar(&o.checksumFile, "checksum-file", "", "list of the only checksums to believe, as `lab build -o checksums` prints it (or $"+checksumsVariable+")")
	f.BoolVar(&o.fromSource, "from-source", false, "compile the programs, download none")
}

// store is the cache, filled as the options say.
func (a *app) store(o programOptions) (*release.Store, error) {
	store := a.storeFromSource()
	if o.fromSource {
		return store, nil
	}
	if o.mirror == "" {
		o.mirror = a.variable(mirrorVariable)
	}
	if o.checksumFile == "" {
		o.checksumFile = a.variable(checksumsVariable)
	}

	client := fetch.NewClient(a.env.Environ, fetch.DefaultLimits())
	var err error
	store.Downloads, err = release.NewDownloads(client, o.mirror, o.checksumFile)
	return store, err
}

// storeFromSource is the cache for programs that are compiled.
func (a *app) storeFromSource() *release.Store {
	return &release.Store{Cache: a.env.CacheDir, Environ: a.env.Environ, Out: a.env.Stderr}
}

// variable looks a variable of the environment up; "" stands for one not set.
func (a *app) variable(name string) string {
	for _, line := range a.env.Environ {
		if value, ok := strings.CutPrefix(line, name+"="); ok {
			return value
		}
	}
	return ""
}

// program is an element of the answer of `lab build -o json`.
type program struct {
	Name     string          `json:"name"`
	Version  string          `json:"version"`
	Dir      string          `json:"dir"`
	Commands release.Origins `json:"commands"`
}

func (a *app) buildCommand() *cobra.Command {
	var version, output string
	var options programOptions
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Get Kubernetes, etcd, containerd and CoreDNS into the cache",
		Long: `Get Kubernetes, etcd, containerd and CoreDNS into the cache: downloaded from
their makers with checksums verified, or compiled where that cannot be, which
takes about ten minutes on two cores.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			show, known := map[string]func(io.Writer, []program) error{"": printTable, "json": printJSON, "checksums": printChecksums}[output]
			if !known {
				return fmt.Errorf("output format %q: only json and checksums are known", output)
			}

			wanted, err := release.Cluster(version)
			if err != nil {
				return err
			}

			store, err := a.store(options)
			if err != nil {
				return err
			}

			var got []program
			for _, p := range wanted {
				dir, err := store.Ensure(cmd.Context(), p)
				if err != nil {
					return err
				}
				origins, err := release.ReadOrigins(dir, p)
				if err != nil {
					return err
				}
				got = append(got, program{Name: p.Name, Version: p.Version, Dir: dir, Commands: origins})
			}

			return show(cmd.OutOrStdout(), got)
		},
	}

	f := cmd.Flags()
	f.StringVar(&version, "kubernetes-version", plan.DefaultKubernetes, "Kubernetes version")
	f.StringVarP(&output, "output", "o", "", `output format: "json", "checksums" (a list for --checksum-file), or lines for people if not given`)
	options.addTo(f)
	return cmd
}

func printJSON(out io.Writer, programs []program) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(programs)
}

// printTable prints a line for each program and each place that its commands
// come from.
func printTable(out io.Writer, programs []program) error {
	for _, p := range programs {
		fmt.Fprintf(out, "%s %s: %s\n", p.Name, p.Version, p.Dir)
		last := ""
		for _, c := range p.Commands {
			from := "compiled from " + c.Module
			if c.URL != "" {
				from = "downloaded from " + c.URL
			}
			if from != last {
				fmt.Fprintln(out, "  "+from)
			}
			last = from
		}
	}
	return nil
}

// printChecksums prints the checksum of each downloaded file, for a list that
// later downloads are held against.
func printChecksums(out io.Writer, programs []program) error {
	listed := map[string]bool{}
	for _, p := range programs {
		for _, c := range p.Commands {
			if c.URL == "" || listed[c.Path] {
				continue
			}
			fmt.Fprintf(out, "%s  %s\n", c.SHA256, c.Path)
			listed[c.Path] = true
		}
	}

	if len(listed) == 0 {
		return fmt.Errorf("nothing in the cache was downloaded, so there are no checksums to list")
	}
	return nil
}
