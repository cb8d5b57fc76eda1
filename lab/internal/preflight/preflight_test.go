package preflight_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/lab/internal/preflight"
)

func TestMissingNamesEachPackageOnce(t *testing.T) {
	got := preflight.Missing(func(program string) bool { return !strings.HasPrefix(program, "/usr/lib/cni/") })
	if !slices.Equal(got, []string{"containernetworking-plugins"}) {
		t.Errorf("got %v", got)
	}
	if got := preflight.Missing(func(string) bool { return true }); len(got) != 0 {
		t.Errorf("nothing is missing, got %v", got)
	}
}

func TestCheckSaysWhatToDoInOneLine(t *testing.T) {
	all := func(string) bool { return true }
	noRunc := func(program string) bool { return program != "runc" }
	for _, c := range []struct {
		name string
		root bool
		has  preflight.Finder
		want string
	}{
		{"not root", false, all, "sudo"},
		{"no runc", true, noRunc, "apt-get install -y runc"},
		{"fine", true, all, ""},
	} {
		err := preflight.Check(c.root, c.has)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want one line with %q", c.name, err, c.want)
		}
	}
}
