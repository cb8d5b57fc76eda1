package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/internal/drill"
	"github.com/isthmus-mesh/isthmus/internal/portforward"
)

// drillOptions are the flags of `x drill`.
type drillOptions struct {
	from                  []string
	cluster, output       string
	before, during, after time.Duration
}

func newDrillCommand(f *kubeFlags) *cobra.Command {
	var o drillOptions
	cmd := &cobra.Command{
		Use:   "drill SERVICE[.NAMESPACE] --from POD[.NAMESPACE]",
		Short: "Fail a service's endpoints in one cluster for chosen callers, and watch calls move and return",
		Long: `Runs a game day: makes the proxies of chosen pods believe that the endpoints of a
service in one cluster have gone, watches where their calls go meanwhile and whether
any fails, lets the endpoints be again, and waits until calls are back. Nothing in any
cluster is touched, and nobody else's calls are.

The pods must be calling the service: their own calls are what is watched. A proxy
refuses where no other endpoint in use would be left. It fails endpoints for ten
seconds at a time unless the command says so again, so that everything works again by
itself should the command be killed or lose its way.

The command fails when calls did not move, when calls failed that would not have
failed otherwise, or when they did not come back.`,
		Example: `  isthmus x drill web.shop --from deploy/frontend.shop
  isthmus x drill web.shop --cluster cluster-1 --from frontend-7c5f9.shop --from cart-0.shop --duration 1m
  isthmus x drill httpbin.bar.global --from sleep-7c5f9.foo -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			return runDrill(cmd, f, args[0], &o)
		},
	}

	flags := cmd.Flags()
	flags.StringArrayVar(&o.from, "from", nil, "a caller: POD[.NAMESPACE], or all pods of deploy/NAME, sts/NAME or ds/NAME[.NAMESPACE]; may be given again")
	flags.StringVar(&o.cluster, "cluster", "", "the cluster whose endpoints fail (default: the one that most calls go to)")
	flags.DurationVar(&o.before, "watch", 5*time.Second, "how long calls are watched first")
	flags.DurationVar(&o.during, "duration", 30*time.Second, "how long the endpoints fail")
	flags.DurationVar(&o.after, "return", 2*time.Minute, "how long it may take until calls are back")
	flags.StringVarP(&o.output, "output", "o", "", "json or yaml; lines for people when empty")
	return cmd
}

func (o *drillOptions) check() error {
	if o.output != "" && o.output != "json" && o.output != "yaml" {
		return fmt.Errorf("output format %q: json and yaml are possible", o.output)
	}
	if len(o.from) == 0 {
		return errors.New("for whom? Name pods that call the service: --from POD[.NAMESPACE] or --from deploy/NAME[.NAMESPACE]")
	}
	for _, d := range []struct {
		flag  string
		value time.Duration
		least time.Duration
	}{
		{"--watch", o.before, 2 * time.Second},
		{"--duration", o.during, 5 * time.Second},
		{"--return", o.after, 5 * time.Second},
	} {
		if d.value < d.least {
			return fmt.Errorf("%s %s is too short to see anything: at least %s", d.flag, d.value, d.least)
		}
	}
	return nil
}

// runDrill finds the callers, opens ways to their proxies, and plays.
func runDrill(cmd *cobra.Command, f *kubeFlags, service string, o *drillOptions) error {
	cfg, err := f.restConfig()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}

	ctx := cmd.Context()
	finding, cancel := withTimeout(ctx)
	defer cancel()
	callers, err := findCallers(finding, client, o.from, f.namespace())
	if err != nil {
		return err
	}

	var verdict *drill.Verdict
	err = reachAll(ctx, client, cfg, callers, func(addrs []string) (err error) {
		game := &drill.Game{Cluster: o.cluster, Before: o.before, During: o.during, After: o.after}
		for i, c := range callers {
			game.Clients = append(game.Clients, drill.Client{Name: c.String(), Admin: addrs[i]})
		}
		if game.Host, err = hostCalled(ctx, addrs[0], service, callers[0]); err != nil {
			return err
		}

		// What is said on the way goes beside what a program reads.
		out := cmd.OutOrStdout()
		if o.output != "" {
			out = cmd.ErrOrStderr()
		}
		game.Tell = drillProgress(out, game)
		verdict, err = game.Run(ctx)
		return err
	})
	if err != nil {
		return err
	}

	if o.output != "" {
		err = printData(cmd.OutOrStdout(), o.output, verdict)
	} else {
		printVerdict(cmd.OutOrStdout(), verdict)
	}
	if err == nil && !verdict.Won() {
		err = &exitError{code: 1}
	}
	return err
}

// reachAll opens ways to the admin ports of all pods, and closes them when do is over.
// They stay open when ctx ends meanwhile: the proxies must yet be told to end it.
func reachAll(ctx context.Context, client kubernetes.Interface, cfg *rest.Config, pods []caller, do func(addrs []string) error) error {
	open, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	keep := context.AfterFunc(ctx, cancel)
	defer keep()

	var addrs []string
	var next func() error
	next = func() error {
		if len(addrs) == len(pods) {
			keep()
			return do(addrs)
		}
		pod := pods[len(addrs)]
		return portforward.To(open, client, cfg, pod.namespace, pod.name, adminPort, func(addr string) error {
			addrs = append(addrs, addr)
			return next()
		})
	}
	return next()
}

// hostCalled is the whole name of the host that people mean by a service, among those
// that a pod's proxy knows.
func hostCalled(ctx context.Context, addr, service string, by caller) (string, error) {
	seen, err := fetchClusters(ctx, addr)
	if err != nil {
		return "", fmt.Errorf("ask the proxy of %s: %w", by, err)
	}
	var hosts []string
	for _, p := range portsOf(seen, service, clientPosition{Namespace: by.namespace}) {
		hosts = append(hosts, p.Host)
	}
	hosts = slices.Compact(hosts)

	switch len(hosts) {
	case 0:
		return "", fmt.Errorf("the proxy of %s knows no service %s: is there one, and is it visible there (exportTo)? Name it with its namespace, or by its whole host name", by, service)
	case 1:
		return hosts[0], nil
	}
	return "", fmt.Errorf("%s may be any of %s: name it by its whole host name", service, strings.Join(hosts, ", "))
}

// drillProgress returns what writes a line when a stage begins, and one every five
// seconds in it.
func drillProgress(out io.Writer, g *drill.Game) func(drill.Look) {
	const often = 5 * time.Second
	stage, said := drill.Stage(""), time.Duration(0)
	var since drill.Calls
	fmt.Fprintf(out, "Watching the calls to %s of %d pods\n", g.Host, len(g.Clients))
	return func(l drill.Look) {
		if l.Stage != stage {
			switch l.Stage {
			case drill.During:
				fmt.Fprintf(out, "Endpoints fail, for %s\n", g.During)
			case drill.After:
				fmt.Fprintln(out, "Endpoints are let be again")
			}
			stage, said, since = l.Stage, 0, drill.Calls{}
		}
		since.Add(l.Calls)
		if l.At-said < often {
			return
		}
		fmt.Fprintf(out, "  %3.0f s: %d calls, %d failed, to %s\n", l.At.Seconds(), since.Total, since.Failed, since.Where())
		said, since = l.At, drill.Calls{}
	}
}

func printVerdict(out io.Writer, v *drill.Verdict) {
	fmt.Fprintf(out, "\n%s, without its endpoints in cluster %s, as seen by %s\n", v.Host, v.Cluster, strings.Join(v.Clients, ", "))
	for _, s := range []struct {
		name  string
		calls drill.Calls
	}{{"before", v.Before}, {"meanwhile", v.During}, {"after", v.After}} {
		fmt.Fprintf(out, "%-10s %6d calls, %d failed, to %s\n", s.name, s.calls.Total, s.calls.Failed, s.calls.Where())
	}
	if v.Won() {
		fmt.Fprintf(out, "✔ Calls moved within %.0f s, none was lost, and they were back %.0f s after it ended\n", max(1, v.MovedAfter), v.BackAfter)
		return
	}
	for _, p := range v.Problems {
		fmt.Fprintf(out, "✘ %s\n", p)
	}
}
