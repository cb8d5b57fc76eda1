package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"isthmus":  main,
		"istioctl": main,
	})
}

// TestScripts runs the command lines of testdata/*.txtar as people type them.
// None of them reaches a cluster.
func TestScripts(t *testing.T) {
	examples, err := filepath.Abs("../../manifests/examples")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("KUBECONFIG", filepath.Join(env.WorkDir, "none"))
			return os.Symlink(examples, filepath.Join(env.WorkDir, "examples"))
		},
		Condition: func(cond string) (bool, error) {
			// Objects of Istio's kinds need the generated CRDs in the build.
			_, err := os.Stat("../../charts/base/files/crds.gen.yaml")
			return cond == "crds" && err == nil, nil
		},
	})
}
