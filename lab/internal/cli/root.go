// Package cli holds the commands of the lab binary: their flags, their help
// and what they print. What they do lives in the packages they call.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/lab/internal/plan"
)

// Env is what the process found around itself.
type Env struct {
	// CacheDir keeps built programs and images.
	CacheDir string
	Path     string
	Environ  []string
	// Root is set for the superuser.
	Root           bool
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// app is one invocation of the binary.
type app struct {
	env      Env
	name     string
	stateDir string
}

// Run carries out one command line and returns the exit code, and the error
// to print if any.
func Run(args []string, env Env) (int, error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()

	// The first Ctrl-C lets a command tidy up; a second one ends it.
	context.AfterFunc(ctx, stop)
	root := newRoot(&app{env: env})
	root.SetArgs(args)
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	err := root.ExecuteContext(ctx)

	var status exitStatus
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &status):
		return int(status), nil
	}
	return 1, err
}

// exitStatus is that of a command run by `lab exec`, which has said itself
// what went wrong.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:           "lab",
		Short:         "Real Kubernetes clusters on one Linux machine",
		SilenceUsage:  true,
		SilenceErrors: true,
	}

	flags := root.PersistentFlags()
	flags.StringVar(&a.name, "name", "default", "name of the lab; labs of different names stand side by side")
	flags.StringVar(&a.stateDir, "state-dir", "", "directory of the lab's files (default "+plan.DefaultStateDir+"/NAME)")
	root.AddCommand(
		a.upCommand(), a.downCommand(), a.statusCommand(), a.envCommand(),
		a.stopCommand(), a.startCommand(), a.execCommand(), a.loadImageCommand(),
		a.partitionCommand(), a.healCommand(), a.exposeCommand(),
		a.buildCommand(), a.depsCommand(), a.sampleImagesCommand(),
		a.agentCommand(), a.machineCommand(),
	)
	return root
}

// paths are the lab's files, by the global flags.
func (a *app) paths() (plan.Paths, error) {
	if err := plan.CheckName(a.name); err != nil {
		return plan.Paths{}, err
	}
	dir := a.stateDir
	if dir == "" {
		dir = filepath.Join(plan.DefaultStateDir, a.name)
	}
	return plan.NewPaths(dir)
}

// load reads the lab that the global flags name.
func (a *app) load() (plan.Paths, *plan.Lab, error) {
	p, err := a.paths()
	if err != nil {
		return plan.Paths{}, nil, err
	}
	l, err := plan.Load(p)
	return p, l, err
}

// loadCluster reads the lab that the global flags name and finds a cluster.
func (a *app) loadCluster(name string) (plan.Paths, *plan.Lab, plan.Cluster, error) {
	p, lab, err := a.load()
	if err != nil {
		return p, nil, plan.Cluster{}, err
	}
	c, err := lab.Cluster(name)
	return p, lab, c, err
}
