// Command lab runs real Kubernetes clusters on one Linux machine, without
// Docker and without touching the machine's own network.
package main

import (
	"fmt"
	"os"

	"github.com/isthmus-mesh/isthmus/lab/internal/cli"
)

func main() {
	env := cli.Env{
		CacheDir: cacheDir(),
		Path:     os.Getenv("PATH"),
		Environ:  os.Environ(),
		Root:     os.Geteuid() == 0,
		Stdin:    os.Stdin,
		Stdout:   os.Stdout,
		Stderr:   os.Stderr,
	}
	code, err := cli.Run(os.Args[1:], env)
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
	}
	os.Exit(code)
}

// cacheDir is $XDG_CACHE_HOME/isthmus-lab, or ~/.cache/isthmus-lab.
func cacheDir() string {
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return dir + "/isthmus-lab"
	}
	home := os.Getenv("HOME")
	if home == "" {
		home = "/root"
	}
	return home + "/.cache/isthmus-lab"
}
