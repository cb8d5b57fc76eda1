// Command isthmus-proxy carries the traffic of a pod (sidecar) or of a cluster's
// edge (router), and sets a pod's redirection up (redirect).
//
// This package holds flags, environment and wiring. Its binary is paid for in
// every pod, so it has no Kubernetes client and no command framework.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/isthmus-mesh/isthmus/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the process at once
	err := run(ctx, os.Args[1:], os.LookupEnv, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "isthmus-proxy:", err)
		os.Exit(1)
	}
}

// command is one subcommand.
type command struct {
	name, args, short string
	run               func(ctx context.Context, c *call) error
}

// call is one invocation of a command.
type call struct {
	cmd   command
	args  []string
	flags *pflag.FlagSet
	env   func(string) (string, bool)
	out   io.Writer
}

func commands() []command {
	return []command{
		{"sidecar", "", "run beside an application and carry its traffic", runSidecar},
		{"router", "", "run as a gateway", runRouter},
		{"redirect", "", "lead the pod's traffic through the sidecar (nftables; needs NET_ADMIN)", runRedirect},
		{"wait", "", "wait until the proxy in this pod is ready", runWait},
		{"request", "METHOD PATH", "send a request to the administration port of the proxy in this pod", runRequest},
		{"version", "", "print the version", runVersion},
	}
}

// run executes one command line.
func run(ctx context.Context, args []string, env func(string) (string, bool), out io.Writer) error {
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		usage(out)
		return nil
	}
	for _, cmd := range commands() {
		if cmd.name != args[0] {
			continue
		}
		c := &call{cmd: cmd, args: args[1:], env: env, out: out}
		c.flags = newFlags(c)
		err := cmd.run(ctx, c)
		if errors.Is(err, pflag.ErrHelp) {
			return nil
		}
		return err
	}
	return fmt.Errorf("unknown command %q; isthmus-proxy help lists the commands", args[0])
}

// newFlags makes the flag set of a call, with its usage text.
func newFlags(c *call) *pflag.FlagSet {
	fl := pflag.NewFlagSet(c.cmd.name, pflag.ContinueOnError)
	fl.SortFlags = false
	fl.SetOutput(c.out)
	fl.Usage = func() {
		fmt.Fprintf(c.out, "Usage: isthmus-proxy %s [flags] %s\n\nTo %s.\n\n%s", c.cmd.name, c.cmd.args, c.cmd.short, fl.FlagUsages())
	}
	return fl
}

func usage(out io.Writer) {
	fmt.Fprint(out, "Usage: isthmus-proxy COMMAND [flags]\n\nCarries the traffic of the Isthmus mesh.\n\nCommands:\n")
	for _, c := range commands() {
		fmt.Fprintf(out, "  %-10s %s\n", c.name, c.short)
	}
	fmt.Fprint(out, "\nisthmus-proxy COMMAND --help says more.\n")
}

// parse reads the flags, and checks that there are as many arguments as n.
func (c *call) parse(n int) error {
	if err := c.flags.Parse(c.args); err != nil {
		return err
	}
	if c.flags.NArg() != n {
		return fmt.Errorf("%s takes %d arguments, got %d; isthmus-proxy %s --help", c.cmd.name, n, c.flags.NArg(), c.cmd.name)
	}
	return nil
}

func runVersion(_ context.Context, c *call) error {
	if err := c.parse(0); err != nil {
		return err
	}
	_, err := fmt.Fprintln(c.out, version.Version)
	return err
}
