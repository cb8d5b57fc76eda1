package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/lab/internal/agent"
	"github.com/isthmus-mesh/isthmus/lab/internal/machine"
	"github.com/isthmus-mesh/isthmus/lab/internal/nodeconf"
)

// inheritedFD is the first descriptor that a parent passes on; exec.Cmd counts
// its ExtraFiles from it.
const inheritedFD = 3

// agentCommand is the lab's process, started by `lab up`.
func (a *app) agentCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "agent",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Getpid() != 1 {
				return errors.New("this command is for `lab up` to run")
			}
			p, err := a.paths()
			if err != nil {
				return err
			}
			return agent.Run(cmd.Context(), agent.Config{
				Paths:   p,
				HostNet: os.NewFile(inheritedFD, "host network"),
				Log:     slog.New(slog.NewTextHandler(a.env.Stderr, nil)),
			})
		},
	}
}

// machineCommand is a node's first process, started by the agent.
func (a *app) machineCommand() *cobra.Command {
	var cluster string
	cmd := &cobra.Command{
		Use:    "machine",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Getpid() != 1 {
				return errors.New("this command is for the lab's agent to run")
			}

			p, lab, err := a.load()
			if err != nil {
				return err
			}

			c, err := lab.Cluster(cluster)
			if err != nil {
				return err
			}
			return machine.Run(cmd.Context(), machine.Config{
				Node:    nodeconf.Node{Lab: lab, Cluster: c},
				Paths:   p.Cluster(c),
				Plugged: os.NewFile(inheritedFD, "plugged"),
				Log:     slog.New(slog.NewTextHandler(a.env.Stderr, nil)),
			})
		},
	}

	cmd.Flags().StringVar(&cluster, "cluster", "", "cluster")
	return cmd
}

// self is the command line by which the user reaches this lab again.
func (a *app) self(command string) string {
	line := "bin/lab"
	if exe, err := os.Executable(); err == nil {
		line = exe
	}

	line = quote(line) + " " + command
	if a.name != "default" {
		line += " --name " + a.name
	}
	if a.stateDir != "" {
		line += " --state-dir " + quote(a.stateDir)
	}
	return line
}

// quote protects s from a shell.
func quote(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:,@%"
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return fmt.Sprintf("'%s'", strings.ReplaceAll(s, "'", `'\''`))
}
