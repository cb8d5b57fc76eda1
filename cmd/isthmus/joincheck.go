package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/isthmus-mesh/isthmus/install/joincheck"
	"github.com/isthmus-mesh/isthmus/kube/clusters"
)

// checkJoining looks at the clusters of several contexts, and tells what keeps
// them from being one mesh.
func checkJoining(ctx context.Context, out io.Writer, f *kubeFlags, contexts []string, output string) error {
	facts := make([]joincheck.Facts, len(contexts))
	errs := make([]error, len(contexts))
	var wg sync.WaitGroup
	for i, name := range contexts {
		wg.Go(func() { facts[i], errs[i] = lookAt(ctx, *f, name) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}

	findings := joincheck.Judge(facts)
	if output != "" {
		if err := printData(out, output, findings); err != nil {
			return err
		}
	} else {
		printFindings(out, findings)
	}
	for _, n := range findings {
		if n.State == joincheck.Problem {
			return &exitError{code: 1}
		}
	}
	return nil
}

// lookAt gathers the facts of one cluster, from here and, where istiod runs, from
// inside.
func lookAt(ctx context.Context, f kubeFlags, name string) (joincheck.Facts, error) {
	f.context = name
	cfg, err := f.restConfig()
	if err != nil {
		return joincheck.Facts{}, err
	}
	facts := joincheck.Look(ctx, name, cfg, f.istioNamespace)
	if facts.Unreachable != "" || facts.Istiod == "" {
		return facts, nil
	}

	seen, err := askReplicas(ctx, &f)
	if err != nil {
		facts.Unseen = append(facts.Unseen, fmt.Sprintf("istiod was not asked how it reaches the other clusters, from inside: %v", err))
	}
	for i := range facts.Secrets {
		s := &facts.Secrets[i]
		for _, state := range seen {
			if string(state.Cluster) != s.Cluster || s.InsideTrouble {
				continue
			}
			s.Inside = strings.TrimSuffix(fmt.Sprintf("%s: %s", state.Status, cmp.Or(state.Reason, "-")), ": -")
			s.InsideTrouble = state.Status == clusters.Stale || state.Status == clusters.Refused
		}
	}
	return facts, nil
}

func printFindings(out io.Writer, findings []joincheck.Finding) {
	for _, n := range findings {
		mark := map[joincheck.State]string{joincheck.OK: "✔", joincheck.Warning: "!", joincheck.Problem: "✘"}[n.State]
		about := ""
		if n.State != joincheck.OK && len(n.Clusters) > 0 {
			about = " (" + strings.Join(n.Clusters, ", ") + ")"
		}
		fmt.Fprintf(out, "%s %s: %s%s\n", mark, n.Check, n.Text, about)
		if n.Mend != "" {
			fmt.Fprintf(out, "    → %s\n", n.Mend)
		}
	}
}
