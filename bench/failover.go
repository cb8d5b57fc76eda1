package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/bench/failover"
	"github.com/isthmus-mesh/isthmus/bench/report"
)

type failoverFlags struct {
	lab, models, faults string
	running, keep       bool
	gets, posts, storm  float64
	checks              bool
	doc, json, records  string
}

// newFailoverCommand measures what callers notice of faults.
func newFailoverCommand() *cobra.Command {
	var f failoverFlags
	cmd := &cobra.Command{
		Use: "failover", Short: "Break things in a mesh of two clusters, and count what callers notice", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runFailover(cmd, f) },
	}
	cmd.Flags().StringVar(&f.lab, "lab", "bench-failover", "the name of the lab")
	cmd.Flags().BoolVar(&f.running, "running", false, "the lab runs; a mesh in it is taken as the one model that is asked for")
	cmd.Flags().BoolVar(&f.keep, "keep", false, "leave the lab and what is in it, for a look or for --running")
	cmd.Flags().StringVar(&f.models, "models", ".", "the models to measure, a regular expression")
	cmd.Flags().StringVar(&f.faults, "faults", ".", "the faults to make, a regular expression")
	cmd.Flags().Float64Var(&f.gets, "gets", 200, "GETs a second of each caller")
	cmd.Flags().Float64Var(&f.posts, "posts", 50, "POSTs a second of each caller")
	cmd.Flags().Float64Var(&f.storm, "storm", 1000, "GETs a second of one caller in the check of how many retries add")
	cmd.Flags().BoolVar(&f.checks, "checks", true, "measure as well where calls go, and how many retries add")
	cmd.Flags().StringVar(&f.doc, "doc", "", "document to write the figures into")
	cmd.Flags().StringVar(&f.records, "records", "", "directory for files with what became of each request")
	cmd.Flags().StringVar(&f.json, "json", "", "file to write the figures to as JSON")
	return cmd
}

func runFailover(cmd *cobra.Command, f failoverFlags) error {
	o := failover.Options{Lab: f.lab, Where: report.Where(time.Now()), Running: f.running, Keep: f.keep, Records: f.records, Checks: f.checks,
		Rates: map[string]float64{"GET": f.gets, "POST": f.posts}, StormRate: f.storm}
	models, err := regexp.Compile(f.models)
	if err != nil {
		return fmt.Errorf("--models: %w", err)
	}
	faults, err := regexp.Compile(f.faults)
	if err != nil {
		return fmt.Errorf("--faults: %w", err)
	}
	o.Models = slices.DeleteFunc(slices.Clone(failover.Models), func(m failover.Model) bool { return !models.MatchString(string(m)) })
	o.Faults = slices.DeleteFunc(slices.Clone(failover.Faults), func(x failover.Fault) bool { return !faults.MatchString(x.Name) })

	if o.Root, err = os.Getwd(); err != nil {
		return err
	}
	if o.Dir, err = os.MkdirTemp("", "isthmus-bench-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(o.Dir) }()

	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	rep, err := failover.Run(cmd.Context(), log, o)
	if rep == nil {
		return err
	}
	fmt.Print(rep.Markdown())
	if f.json != "" {
		err = errors.Join(err, rep.WriteJSON(f.json))
	}
	if f.doc != "" {
		err = errors.Join(err, report.Replace(f.doc, failoverBegin, failoverEnd, rep.Markdown()))
	}
	if n := rep.Missed(); n > 0 && err == nil {
		err = fmt.Errorf("%d figures miss their bar", n)
	}
	return err
}

// The marks between which the figures stand in a document.
const (
	failoverBegin = "<!-- figures: written by make bench-failover -->"
	failoverEnd   = "<!-- end of figures -->"
)
