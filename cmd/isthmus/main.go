// Command isthmus installs the mesh, steers it, and runs its control plane and
// its DNS server inside the cluster. It answers to the name istioctl as well.
//
// This package holds flags, environment and wiring, and no logic of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	os.Exit(run(os.Args))
}

// run executes one command line (args[0] is the name it was called by) and
// returns the process's exit code. The first interrupt cancels the command's
// context, the second one ends the process at once.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	root := newRootCommand(args[0])
	root.SetArgs(args[1:])
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var exit *exitError
	if errors.As(err, &exit) {
		return exit.code
	}
	fmt.Fprintln(os.Stderr, "Error:", err)
	return 1
}

// exitError ends the command with a code when everything worth saying is
// already said: a difference found, a verification that failed.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit status %d", e.code) }
