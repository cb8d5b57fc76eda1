package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/dns/stub"
)

// newXDNSCommand is `x dns`: how the cluster's own DNS reaches the mesh's.
func newXDNSCommand(f *kubeFlags) *cobra.Command {
	x := &xdns{kube: f}
	cmd := &cobra.Command{
		Use:   "dns",
		Short: "Point the cluster's DNS at the mesh's",
		Long: `Points the cluster's own DNS (CoreDNS in kube-system) at the mesh's DNS server,
so that pods resolve names such as httpbin.bar.global.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	p := cmd.PersistentFlags()
	p.StringVar(&x.options.Zone, "zone", api.DefaultGlobalDomain, "zone that the mesh answers for")
	p.StringVar(&x.options.Service, "dns-service", "istiocoredns", "Service of the mesh's DNS server, in the control plane's namespace")
	p.StringVarP(&x.output, "output", "o", "", "print the result as json or yaml")
	cmd.AddCommand(x.apply(), x.show(), x.remove())
	return cmd
}

type xdns struct {
	kube    *kubeFlags
	options stub.Options
	output  string
}

func (x *xdns) apply() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Send a zone's questions to the mesh, and check that they arrive",
		Long: `Adds a server block for the zone to the Corefile of the CoreDNS that runs, in the
syntax of its version, and leaves the rest of the file as it is, except for
directives that this CoreDNS no longer knows (proxy, upstream), which are
translated. Then it asks every CoreDNS pod a question that only the mesh's DNS
can answer; if they do not answer in time, the old Corefile is put back.`,
		Example: `  isthmus x dns apply
  isthmus x dns apply --zone global --timeout 1m`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := x.prepare(cmd)
			if err != nil {
				return err
			}
			r, err := stub.Apply(cmd.Context(), config, x.options)
			return x.finish(cmd.OutOrStdout(), r, err)
		},
	}
	cmd.Flags().DurationVar(&x.options.Timeout, "timeout", 3*time.Minute, "how long to wait for the first answer")
	return cmd
}

func (x *xdns) show() *cobra.Command {
	return &cobra.Command{
		Use:     "show",
		Short:   "Show where a zone's questions go, and whether they are answered",
		Example: "  isthmus x dns show -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := x.prepare(cmd)
			if err != nil {
				return err
			}
			r, err := stub.Show(cmd.Context(), config, x.options)
			if err == nil && x.output == "" {
				describe(cmd.OutOrStdout(), r)
				return nil
			}
			return x.finish(cmd.OutOrStdout(), r, err)
		},
	}
}

func (x *xdns) remove() *cobra.Command {
	return &cobra.Command{
		Use:     "remove",
		Short:   "Take out what apply wrote",
		Example: "  isthmus x dns remove",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := x.prepare(cmd)
			if err != nil {
				return err
			}
			r, err := stub.Remove(cmd.Context(), config, x.options)
			return x.finish(cmd.OutOrStdout(), r, err)
		},
	}
}

// prepare checks the flags and directs progress: to the output, or beside it
// when the output is data.
func (x *xdns) prepare(cmd *cobra.Command) (*rest.Config, error) {
	progress := cmd.OutOrStdout()
	switch x.output {
	case "":
	case "json", "yaml":
		progress = cmd.ErrOrStderr()
	default:
		return nil, fmt.Errorf("-o %s: it is json or yaml", x.output)
	}
	x.options.Namespace = x.kube.istioNamespace
	x.options.Progress = func(s string) { fmt.Fprintln(progress, s) }
	return x.kube.restConfig()
}

func (x *xdns) finish(w io.Writer, r *stub.Report, err error) error {
	if r == nil || x.output == "" {
		return err
	}
	text, encodeErr := json.MarshalIndent(r, "", "  ")
	if encodeErr == nil && x.output == "yaml" {
		text, encodeErr = yaml.JSONToYAML(text)
	}
	if encodeErr != nil {
		return fmt.Errorf("encode the result: %w", encodeErr)
	}
	fmt.Fprintln(w, strings.TrimSuffix(string(text), "\n"))
	return err
}

// describe prints a report for people.
func describe(w io.Writer, r *stub.Report) {
	version := "of unknown version"
	if r.CoreDNS != "" {
		version = r.CoreDNS
	}
	fmt.Fprintf(w, "Corefile:  ConfigMap %s, CoreDNS %s\n", r.ConfigMap, version)
	service := r.Service
	if service == "" {
		service = "not installed"
	}
	fmt.Fprintf(w, "Mesh DNS:  %s\n", service)
	switch r.State {
	case "absent":
		fmt.Fprintf(w, "Zone:      %s is not sent anywhere; isthmus x dns apply does that\n", r.Zone)
		return
	case "foreign":
		fmt.Fprintf(w, "Zone:      %s goes to %s, by a block that isthmus did not write\n", r.Zone, strings.Join(r.Forwards, ", "))
	case "stale":
		fmt.Fprintf(w, "Zone:      %s goes to %s, which is not the mesh's address any more; isthmus x dns apply corrects it\n", r.Zone, strings.Join(r.Forwards, ", "))
	default:
		fmt.Fprintf(w, "Zone:      %s goes to %s\n", r.Zone, strings.Join(r.Forwards, ", "))
	}
	for _, l := range r.Lookups {
		if l.Error != "" {
			fmt.Fprintf(w, "Lookup:    ✘ %s\n", l.Error)
		} else {
			fmt.Fprintf(w, "Lookup:    ✔ %s is answered by %s\n", l.Pod, l.Answer)
		}
	}
}
