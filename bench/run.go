package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/bench/clusters"
	"github.com/isthmus-mesh/isthmus/bench/controlplane"
	"github.com/isthmus-mesh/isthmus/bench/dataplane"
	"github.com/isthmus-mesh/isthmus/bench/report"
	"github.com/isthmus-mesh/isthmus/test/rig/peers"
	"github.com/isthmus-mesh/isthmus/test/rig/pki"
)

// The parts of a run.
const (
	partData    = "data"
	partControl = "control"
	// partClusters is the control plane over several clusters.
	partClusters = "clusters"
)

type runFlags struct {
	quick, keep      bool
	parts, lanes     []string
	doc, json        string
	proxy, discovery string
	envoy, profiles  string
}

func newRunCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use: "run", Short: "Measure, and write the figures", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), f) },
	}
	cmd.Flags().BoolVar(&f.quick, "quick", false, "measure less, for an impression within a minute")
	cmd.Flags().BoolVar(&f.keep, "keep", false, "keep the logs and configurations of what was measured")
	cmd.Flags().StringSliceVar(&f.parts, "parts", []string{partData, partControl, partClusters}, "what to measure: data, control, clusters")
	cmd.Flags().StringSliceVar(&f.lanes, "lanes", nil, "the contenders of the data plane (default: direct, haproxy, nginx, isthmus, envoy)")
	cmd.Flags().StringVar(&f.profiles, "profiles", "", "take profiles of isthmus-proxy into this directory, instead of figures of the data plane")
	cmd.Flags().StringVar(&f.doc, "doc", "", "document to write the figures into")
	cmd.Flags().StringVar(&f.json, "json", "", "file to write the figures to as JSON")
	cmd.Flags().StringVar(&f.proxy, "proxy", "bin/isthmus-proxy", "the isthmus-proxy to measure")
	cmd.Flags().StringVar(&f.discovery, "discovery", "bin/bench-discovery", "the discovery to measure (bench/discovery)")
	cmd.Flags().StringVar(&f.envoy, "envoy", os.Getenv("ENVOY"), "the Envoy to measure (default: from the Python package)")
	return cmd
}

func run(ctx context.Context, f runFlags) error {
	for _, p := range f.parts {
		if known := []string{partData, partControl, partClusters}; !slices.Contains(known, p) {
			return fmt.Errorf("--parts: %q is none of %s", p, strings.Join(known, ", "))
		}
	}
	if _, err := os.Stat(f.discovery); err != nil {
		return fmt.Errorf("--discovery: %w; build it: go build -o bin/bench-discovery ./bench/discovery", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "isthmus-bench-")
	if err != nil {
		return err
	}
	if f.keep {
		fmt.Fprintln(os.Stderr, "files:", dir)
	} else {
		defer func() { _ = os.RemoveAll(dir) }()
	}
	root, err := pki.NewRoot()
	if err != nil {
		return err
	}
	if err := errors.Join(os.Chmod(dir, 0o755), root.Save(dir)); err != nil {
		return err
	}
	rep := &report.Report{Started: time.Now()}
	if err := measure(ctx, f, self, dir, root, rep); err != nil {
		show(rep) // what there is
		return err
	}
	return write(f, rep)
}

func measure(ctx context.Context, f runFlags, self, dir string, root *pki.Root, rep *report.Report) error {
	if slices.Contains(f.parts, partControl) {
		o := controlplane.Options{Discovery: f.discovery, Dir: dir, Root: root, Quick: f.quick}
		if err := controlplane.Run(ctx, o, rep); err != nil {
			return err
		}
	}
	if slices.Contains(f.parts, partClusters) {
		if err := clusters.Run(ctx, clusters.Options{Self: self, Dir: dir, Quick: f.quick}, rep); err != nil {
			return err
		}
	}
	if slices.Contains(f.parts, partData) {
		envoy, err := peers.FindEnvoy(ctx, f.envoy)
		if err != nil {
			return err
		}
		o := dataplane.Options{Self: self, Discovery: f.discovery, Dir: dir, Root: root, IsthmusProxy: f.proxy, Envoy: envoy, Lanes: f.lanes, Profiles: f.profiles, Quick: f.quick}
		return dataplane.Run(ctx, o, rep)
	}
	return nil
}

func show(rep *report.Report) {
	fmt.Print(rep.Markdown())
	for _, row := range rep.Rows {
		if row.Bar == nil {
			fmt.Printf("%s: %s %s\n", row.Name, report.Number(row.Value), row.Unit)
		}
	}
}

// write prints the figures and writes the files that are asked for.
func write(f runFlags, rep *report.Report) error {
	show(rep)
	if f.json != "" {
		if err := rep.WriteJSON(f.json); err != nil {
			return err
		}
	}
	if f.doc != "" {
		return rep.WriteDoc(f.doc)
	}
	return nil
}
