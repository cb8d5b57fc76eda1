package main

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
)

// TestWatched: an IstioOperator steers the mesh only where those who run it put
// theirs, unless they ask for all namespaces.
func TestWatched(t *testing.T) {
	for _, c := range []struct {
		flag []string
		want []string
	}{
		{nil, []string{"istio-operator"}},
		{[]string{""}, []string{"istio-operator"}},
		{[]string{"istio-system"}, []string{"istio-operator", "istio-system"}},
		{[]string{"istio-operator", " a "}, []string{"istio-operator", "a"}},
		{[]string{"a", "*"}, nil},
	} {
		if got := watched(c.flag, "istio-operator"); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.flag, got, c.want)
		}
	}
}

func TestOperatorDump(t *testing.T) {
	for flag, want := range map[string]string{
		"":                        "- --watchedNamespaces=istio-system\n",
		"--watchedNamespaces=a,b": "- --watchedNamespaces=a,b\n",
		"--watchedNamespaces=*":   "- --watchedNamespaces=*\n",
	} {
		args := []string{"operator", "dump"}
		if flag != "" {
			args = append(args, flag)
		}
		var out bytes.Buffer
		root := newRootCommand("isthmus")
		root.SetArgs(args)
		root.SetOut(&out)
		if err := root.ExecuteContext(context.Background()); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s: no %q in\n%s", flag, want, out.String())
		}
	}
}
