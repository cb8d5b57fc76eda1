package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/charts"
	"github.com/isthmus-mesh/isthmus/install/apply"
	"github.com/isthmus-mesh/isthmus/install/render"
	"github.com/isthmus-mesh/isthmus/operator"
	"github.com/isthmus-mesh/isthmus/version"
)

// operatorRevision is the name under which the operator's own objects are kept
// in an inventory.
const operatorRevision = "istio-operator"

// watchedText explains --watchedNamespaces: whoever may write an IstioOperator
// where it counts decides about the whole mesh.
const watchedText = "namespaces, besides the operator's own, whose IstioOperator resources count; \"*\" for all"

func newOperatorCommand(f *kubeFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "operator",
		Short: "Install, remove or print the operator, which keeps a cluster as IstioOperator resources say",
	}
	cmd.AddCommand(newOperatorInitCommand(f), newOperatorRemoveCommand(f), newOperatorDumpCommand(f), newOperatorRunCommand(f))
	return cmd
}

// operatorFlags say how the operator is installed.
type operatorFlags struct {
	namespace, hub, tag string
	watch               []string
	yes, dryRun         bool
	timeout             time.Duration
}

func (o *operatorFlags) add(p *pflag.FlagSet) {
	p.StringVar(&o.namespace, "operatorNamespace", "istio-operator", "namespace of the operator")
	p.StringVar(&o.hub, "hub", version.DefaultHub, "repository of its image, and of what it installs")
	p.StringVar(&o.tag, "tag", version.Version, "tag of its image, and of what it installs")
	p.StringSliceVar(&o.watch, "watchedNamespaces", []string{api.DefaultNamespace}, watchedText)
}

func (o *operatorFlags) addChange(p *pflag.FlagSet) {
	p.BoolVarP(&o.yes, "skip-confirmation", "y", false, "do not ask before changing the cluster")
	p.BoolVar(&o.dryRun, "dry-run", false, "show what would change and touch nothing")
	p.DurationVar(&o.timeout, "readiness-timeout", 5*time.Minute, "how long to wait")
}

func (o *operatorFlags) objects() ([]render.Object, error) {
	return render.RenderOperator(render.OperatorConfig{Namespace: o.namespace, Hub: o.hub, Tag: o.tag, Watch: o.watch}, charts.FS)
}

func newOperatorDumpCommand(*kubeFlags) *cobra.Command {
	o := &operatorFlags{}
	cmd := &cobra.Command{
		Use:   "dump",
		Short: "Print the operator's manifest",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			objs, err := o.objects()
			if err != nil {
				return err
			}
			text, err := render.YAML(objs)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	o.add(cmd.Flags())
	return cmd
}

func newOperatorInitCommand(f *kubeFlags) *cobra.Command {
	o := &operatorFlags{}
	var files []string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Install the operator, and with -f a resource for it",
		Example: `  isthmus operator init
  kubectl create namespace istio-system
  kubectl apply -n istio-system -f my-istiooperator.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			objs, err := o.objects()
			if err != nil {
				return err
			}
			client, err := f.applyClient()
			if err != nil {
				return err
			}

			var resources []render.Object
			for _, name := range files {
				got, err := operatorResource(name, f.istioNamespace, cmd)
				if err != nil {
					return err
				}
				resources = append(resources, got)
			}

			desired := apply.Desired{Revision: operatorRevision, Namespace: o.namespace, Version: version.Version, Objects: objs}
			if err := o.install(cmd, client, desired); err != nil || o.dryRun {
				return err
			}

			for _, r := range resources {
				if err := client.Put(cmd.Context(), r); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "✔ %s applied\n", r.ID())
			}
			return nil
		},
	}
	o.add(cmd.Flags())
	o.addChange(cmd.Flags())
	cmd.Flags().StringArrayVarP(&files, "filename", "f", nil, "IstioOperator `file` to apply once the operator runs")
	return cmd
}

// install brings the operator's own objects about.
func (o *operatorFlags) install(cmd *cobra.Command, client *apply.Client, desired apply.Desired) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	if err := client.CheckAccess(ctx, desired); err != nil {
		return err
	}
	plan, err := client.Plan(ctx, desired)
	if err != nil {
		return err
	}
	printPlan(out, plan, o.dryRun)
	if o.dryRun {
		return nil
	}
	if plan.Changes() > 0 && !o.yes && !agreed(cmd.InOrStdin(), out, fmt.Sprintf("Install the operator into namespace %s?", o.namespace)) {
		return fmt.Errorf("not confirmed; nothing was changed")
	}
	start := time.Now()
	if err := client.Run(ctx, plan, apply.Options{Reporter: newProgress(out), Timeout: o.timeout}); err != nil {
		return err
	}
	finish(out, plan, time.Since(start))
	return nil
}

// operatorResource reads one IstioOperator and gives it a name and namespace
// where it has none.
func operatorResource(name, namespace string, cmd *cobra.Command) (render.Object, error) {
	data, err := readInput(name, cmd.InOrStdin())
	if err != nil {
		return render.Object{}, err
	}
	// The whole is checked before anything is applied.
	c := configFlags{inputs: []input{{name, data}}}
	if _, err := c.resolve(cmd.InOrStdin()); err != nil {
		return render.Object{}, err
	}
	objs, err := render.Decode(data, render.Operator)
	if err != nil {
		return render.Object{}, fmt.Errorf("%s: %w", name, err)
	}
	o := objs[0]
	o.SetName(cmp.Or(o.GetName(), "installed-state"))
	o.SetNamespace(cmp.Or(o.GetNamespace(), namespace))
	return o, nil
}

func newOperatorRemoveCommand(f *kubeFlags) *cobra.Command {
	o := &operatorFlags{}
	var purge, force bool
	cmd := &cobra.Command{
		Use:   "remove",
		Short: "Remove the operator; the mesh stays unless --purge is given",
		Long: `Removes the operator with all that belongs to it: its namespace, roles, the CRD
of IstioOperator and the resources of that kind. The mesh that it installed stays
and can be changed with install and removed with uninstall; --purge removes it as
well.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := f.applyClient()
			if err != nil {
				return err
			}
			return o.remove(cmd, client, purge)
		},
	}
	o.add(cmd.Flags())
	o.addChange(cmd.Flags())
	cmd.Flags().BoolVar(&purge, "purge", false, "remove the mesh as well, all revisions of it")
	cmd.Flags().BoolVar(&force, "force", false, "accepted for compatibility: there is nothing to force")
	_ = cmd.Flags().MarkHidden("force")
	return cmd
}

func (o *operatorFlags) remove(cmd *cobra.Command, client *apply.Client, purge bool) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	removal, err := client.PlanRemovalOf(ctx, operatorRevision)
	if err != nil {
		return err
	}
	printRemoval(out, removal, o.dryRun)
	if o.dryRun {
		return nil
	}
	if !o.yes && !agreed(cmd.InOrStdin(), out, "Proceed?") {
		return fmt.Errorf("not confirmed; nothing was changed")
	}
	// Without its operator, nobody would ever release the resources.
	if err := client.Release(ctx, operator.GVK(), operator.Finalizer, removal); err != nil {
		return err
	}
	if err := client.Remove(ctx, removal, apply.Options{Timeout: o.timeout}); err != nil {
		return err
	}
	fmt.Fprintln(out, "✔ Operator removed")
	if !purge {
		return nil
	}
	return purgeMesh(ctx, client, o.timeout, cmd)
}

// purgeMesh removes every revision, where there is one.
func purgeMesh(ctx context.Context, client *apply.Client, timeout time.Duration, cmd *cobra.Command) error {
	invs, err := client.Inventories(ctx)
	if err != nil || len(invs) == 0 {
		return err
	}
	removal, err := client.PlanRemoval(ctx, "", "", true)
	if err != nil {
		return err
	}
	printRemoval(cmd.OutOrStdout(), removal, false)
	if err := client.Remove(ctx, removal, apply.Options{Timeout: timeout}); err != nil {
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout(), "✔ Mesh removed")
	return nil
}

// newOperatorRunCommand is what the operator's Deployment runs.
func newOperatorRunCommand(f *kubeFlags) *cobra.Command {
	c := operator.Config{Version: version.Version, Charts: charts.FS}
	var level string
	cmd := &cobra.Command{
		Use:    "run",
		Short:  "Run the operator: what the Deployment istio-operator runs",
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var l slog.Level
			if err := l.UnmarshalText([]byte(level)); err != nil {
				return fmt.Errorf("--log-level: %w", err)
			}
			c.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: l}))
			var err error
			if c.Rest, err = f.restConfig(); err != nil {
				return err
			}
			c.Watch = watched(c.Watch, c.Namespace)
			return operator.Run(cmd.Context(), c)
		},
	}
	p := cmd.Flags()
	p.StringVar(&c.Namespace, "pod-namespace", cmp.Or(os.Getenv("POD_NAMESPACE"), "istio-operator"), "namespace of the operator ($POD_NAMESPACE)")
	p.StringVar(&c.Hub, "hub", version.DefaultHub, "repository of images where a resource names none")
	p.StringVar(&c.Tag, "tag", version.Version, "tag of images where a resource names none")
	p.StringSliceVar(&c.Watch, "watchedNamespaces", []string{api.DefaultNamespace}, watchedText)
	p.StringVar(&c.MetricsAddr, "metrics-addr", ":8383", "address for metrics")
	p.StringVar(&c.HealthAddr, "health-addr", ":8081", "address for readiness")
	p.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return cmd
}

// watched is the list of namespaces that --watchedNamespaces stands for, with
// the operator's own; nil is all.
func watched(flag []string, own string) []string {
	out := []string{own}
	for _, ns := range flag {
		switch ns = strings.TrimSpace(ns); {
		case ns == "*":
			return nil
		case ns != "" && !slices.Contains(out, ns):
			out = append(out, ns)
		}
	}
	return out
}
