package cli_test

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/isthmus-mesh/isthmus/lab/internal/cli"
)

func TestMain(m *testing.M) {
	run := func(root bool) func() {
		return func() {
			code, err := cli.Run(os.Args[1:], cli.Env{
				CacheDir: os.Getenv("WORK") + "/cache", Environ: os.Environ(), Root: root,
				Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
			})
			if err != nil {
				fmt.Fprintln(os.Stderr, "lab:", err)
			}
			os.Exit(code)
		}
	}
	testscript.Main(m, map[string]func(){"lab": run(true), "lab-as-user": run(false)})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("ARCH", runtime.GOARCH)
			return nil
		},
	})
}
