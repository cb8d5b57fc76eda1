package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/dns/stub"
	"github.com/isthmus-mesh/isthmus/install/apply"
	"github.com/isthmus-mesh/isthmus/install/render"
	"github.com/isthmus-mesh/isthmus/install/values"
	"github.com/isthmus-mesh/isthmus/version"
)

// installFlags steer an installation.
type installFlags struct {
	config      configFlags
	yes         bool
	dryRun      bool
	addresses   bool
	noWait      bool
	dns         bool
	force       bool
	showChanges bool
	timeout     time.Duration
}

// newInstallCommand makes "install", and under the parent "manifest" its twin
// "apply".
func newInstallCommand(f *kubeFlags, use string) *cobra.Command {
	i := &installFlags{}
	cmd := &cobra.Command{
		Use:   use,
		Short: "Install the mesh into a cluster, or change what is installed",
		Long: `Compares what the profile, the files and the flags ask for with what the
cluster has, applies the difference in order, waits until everything works, and
removes what an earlier installation of the same revision left.`,
		Example: `  # The default profile
  isthmus install

  # A profile, a setting, images from a registry of your own
  isthmus install --set profile=demo --set hub=registry.example.com/mesh --set tag=v1

  # What would change
  isthmus install -f my.yaml --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return i.run(cmd, f) },
	}
	i.add(cmd.Flags())
	return cmd
}

func (i *installFlags) add(p *pflag.FlagSet) {
	i.config.add(p)
	p.BoolVarP(&i.yes, "skip-confirmation", "y", false, "do not ask before changing the cluster")
	p.BoolVar(&i.dryRun, "dry-run", false, "show what would change and touch nothing")
	p.BoolVar(&i.showChanges, "verbose", false, "list each object that changes, field by field")
	p.BoolVarP(&i.addresses, "wait", "w", false, "also wait until LoadBalancer services have an address")
	p.BoolVar(&i.noWait, "no-wait", false, "do not wait until pods are ready")
	p.BoolVar(&i.dns, "apply-dns", false, "also point the cluster's DNS at istiocoredns, as x dns apply does")
	p.DurationVar(&i.timeout, "readiness-timeout", 5*time.Minute, "how long to wait for each stage")
	p.BoolVar(&i.force, "force", false, "accepted for compatibility: there is nothing to force")
	_ = p.MarkHidden("force")
}

func (i *installFlags) run(cmd *cobra.Command, f *kubeFlags) error {
	config, objs, err := i.config.objects(cmd.InOrStdin())
	if err != nil {
		return err
	}

	warn(cmd.ErrOrStderr(), config)
	if i.dns && !config.Spec.AddonComponents.IstioCoreDNS.On() {
		return fmt.Errorf("--apply-dns: istiocoredns is not part of this installation; add --set addonComponents.istiocoredns.enabled=true")
	}

	client, err := f.applyClient()
	if err != nil {
		return err
	}
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	if config, objs, err = i.config.beside(ctx, client, config, objs); err != nil {
		return err
	}
	desired, err := apply.NewDesired(config, objs, version.Version)
	if err != nil {
		return err
	}
	if err := client.CheckAccess(ctx, desired); err != nil {
		return err
	}
	plan, err := client.Plan(ctx, desired)
	if err != nil {
		return err
	}

	printPlan(out, plan, i.dryRun || i.showChanges)
	warnUnheeded(ctx, cmd.ErrOrStderr(), client)
	if i.dryRun {
		return nil
	}
	if plan.Changes() > 0 && !i.yes && !confirmed(cmd.InOrStdin(), out, config) {
		return fmt.Errorf("not confirmed; nothing was changed")
	}

	start := time.Now()
	err = client.Run(ctx, plan, apply.Options{
		Reporter: newProgress(out), Timeout: i.timeout, NoWait: i.noWait, Addresses: i.addresses,
	})
	if err != nil {
		return err
	}
	finish(out, plan, time.Since(start))
	if i.dns {
		return pointDNS(cmd, f, config)
	}
	return nil
}

// pointDNS sends the zone of other clusters' services to the mesh's DNS server.
func pointDNS(cmd *cobra.Command, f *kubeFlags, c *values.Config) error {
	cfg, err := f.restConfig()
	if err != nil {
		return err
	}
	_, err = stub.Apply(cmd.Context(), cfg, stub.Options{
		Zone: c.Spec.Values.Global.MultiCluster.GlobalDomainSuffix, Namespace: c.Namespace,
		Progress: func(s string) { fmt.Fprintln(cmd.OutOrStdout(), s) },
	})
	return err
}

// applyClient makes the installer's client of the cluster that the flags name.
func (f *kubeFlags) applyClient() (*apply.Client, error) {
	cfg, err := f.restConfig()
	if err != nil {
		return nil, err
	}
	return apply.NewClient(cfg)
}

// installedDocument is the configuration that an inventory keeps, as an
// IstioOperator.
func installedDocument(inv apply.Inventory) (input, error) {
	spec := map[string]any{}
	if err := yaml.Unmarshal([]byte(inv.Spec), &spec); err != nil {
		return input{}, fmt.Errorf("the inventory of revision %s: %w", inv.Revision, err)
	}
	data, err := yaml.Marshal(document(spec))
	return input{name: "the installed configuration of revision " + inv.Revision, data: data}, err
}

// printPlan shows what is going to change.
func printPlan(out io.Writer, p *apply.Plan, detailed bool) {
	for _, s := range p.Steps {
		if s.Action == apply.Leave {
			fmt.Fprintf(out, "%s is left as it is: it was not installed by isthmus, and is another's to change\n", s.Entry.ID())
		}
	}
	if p.Changes() == 0 {
		return
	}
	fmt.Fprintf(out, "Plan: %d to create, %d to change, %d to delete, %d as they should be\n",
		p.Count(apply.Create), p.Count(apply.Change), p.Count(apply.Delete), p.Count(apply.Keep))
	if !detailed {
		return
	}
	for _, s := range p.Steps {
		if s.Action == apply.Keep || s.Action == apply.Leave {
			continue
		}
		fmt.Fprintf(out, "  %-6s %s\n", s.Action, s.Entry.ID())
		for _, d := range s.Changes {
			fmt.Fprintf(out, "           %s\n", d)
		}
	}
}

// confirmed asks, where somebody is there to answer.
func confirmed(in io.Reader, out io.Writer, c *values.Config) bool {
	question := fmt.Sprintf("Install profile %s, revision %s, into namespace %s?", c.Profile, c.Revision, c.Namespace)
	return agreed(in, out, question)
}

// agreed asks a question, where somebody is there to answer.
func agreed(in io.Reader, out io.Writer, question string) bool {
	file, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return true
	}
	fmt.Fprint(out, question, " (y/N) ")
	line, _ := bufio.NewReader(in).ReadString('\n')
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes"
}

// finish says how it ended.
func finish(out io.Writer, p *apply.Plan, took time.Duration) {
	if p.Changes() == 0 {
		fmt.Fprintf(out, "✔ Nothing to do: all %d objects are as they should be\n", p.Count(apply.Keep))
		return
	}
	if n := p.Count(apply.Delete); n > 0 {
		fmt.Fprintf(out, "✔ Removed %d objects that are no longer wanted\n", n)
	}
	fmt.Fprintf(out, "✔ Installation complete (%.1f s)\n", took.Seconds())
}

// progress prints a line per component, and what is being waited for when that
// takes a while.
type progress struct {
	out   io.Writer
	timer *time.Timer
}

func newProgress(out io.Writer) *progress { return &progress{out: out} }

// Applied implements apply.Reporter.
func (p *progress) Applied(component string, took time.Duration) {
	fmt.Fprintf(p.out, "✔ %s (%.1f s)\n", installedText(component), took.Seconds())
}

// patience is how long a wait may take before it is spoken of.
const patience = 10 * time.Second

// Waiting implements apply.Reporter.
func (p *progress) Waiting(what string) {
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	if what != "" {
		p.timer = time.AfterFunc(patience, func() { fmt.Fprintf(p.out, "- waiting for %s\n", what) })
	}
}

// installedText is what the progress line says of a component.
func installedText(component string) string {
	switch component {
	case render.Base:
		return "Base installed: APIs and accounts"
	case render.Pilot:
		return "Istiod installed"
	case render.IngressGateways:
		return "Ingress gateways installed"
	case render.EgressGateways:
		return "Egress gateways installed"
	case render.CoreDNS:
		return "Istiocoredns installed"
	case render.Operator:
		return "Operator installed"
	case render.MultiCluster:
		return "Multi-cluster gateway configured"
	}
	return component + " installed"
}

// withTimeout bounds a short request to the cluster.
func withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, 30*time.Second)
}
