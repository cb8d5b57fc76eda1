package apply

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/install/render"
)

// Reporter is told how an installation goes. Its methods are called from one
// goroutine at a time.
type Reporter interface {
	// Applied says that a component's objects are all in the cluster and, if
	// it has pods, that these are ready.
	Applied(component string, took time.Duration)
	// Waiting says what is being waited for; empty when for nothing any more.
	Waiting(what string)
}

// Options say how to carry a plan out.
type Options struct {
	Reporter Reporter
	// Timeout bounds each wait; 5 minutes when zero.
	Timeout time.Duration
	// NoWait leaves as soon as everything is applied.
	NoWait bool
	// Addresses waits until Services of type LoadBalancer have an address.
	Addresses bool
}

// Run carries a plan out. When it fails or is interrupted at any point, a new
// plan and run complete the installation.
func (c *Client) Run(ctx context.Context, p *Plan, o Options) error {
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Minute
	}
	r := &run{client: c, plan: p, options: o, start: time.Now()}
	if err := r.intend(ctx); err != nil {
		return err
	}
	if err := r.applyAll(ctx); err != nil {
		return err
	}
	if err := r.prune(ctx); err != nil {
		return err
	}
	return r.record(ctx)
}

// run is one Run.
type run struct {
	client  *Client
	plan    *Plan
	options Options
	start   time.Time
	talk    sync.Mutex // held while the Reporter is called
}

// intend creates the namespaces and notes what is about to be there, so that
// an interrupted installation leaves nothing that no inventory knows of.
func (r *run) intend(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.options.Timeout)
	defer cancel()
	for _, s := range r.plan.Steps {
		if s.Entry.Kind == "Namespace" && s.Action == Create {
			if err := r.client.makeNamespace(ctx, s.Entry.Name); err != nil {
				return named(s.Entry.ID(), err)
			}
		}
	}
	if r.plan.Changes() == 0 && r.plan.old != nil {
		return nil
	}
	inv := r.inventory()
	for _, s := range r.plan.Steps {
		if e := inv.entry(s.Entry); e != nil && s.Action != Keep {
			e.Hash = ""
		}
	}
	return r.client.save(ctx, inv)
}

// inventory lists every object of the plan, those to be deleted included, and
// what is kept although it is no longer wanted, for uninstall.
func (r *run) inventory() Inventory {
	d := r.plan.Desired
	inv := Inventory{Revision: d.Revision, Addition: d.Addition, Namespace: d.Namespace, Version: d.Version, Spec: d.Spec}
	left := map[string]bool{}
	for _, s := range r.plan.Steps {
		e := s.Entry
		if s.Action == Leave {
			left[e.key()] = true
			continue
		}
		e.Hash, e.Intent = s.hash, s.rendered
		inv.Entries = append(inv.Entries, e)
	}
	if r.plan.old != nil {
		for _, e := range r.plan.old.Entries {
			// The default validator stays for another revision, which has it in
			// its own inventory; here it would be missed.
			if inv.entry(e) == nil && !left[e.key()] && !isDefaultValidator(e.Kind, e.Name) {
				inv.Entries = append(inv.Entries, e)
			}
		}
	}
	return inv
}

// record writes the final inventory, unless it is the one that is there.
func (r *run) record(ctx context.Context) error {
	inv := r.inventory()
	inv.Entries = slices.DeleteFunc(inv.Entries, r.deleted)
	if old := r.plan.old; old != nil && r.plan.Changes() == 0 &&
		old.Version == inv.Version && old.Spec == inv.Spec && sameEntries(old.Entries, inv.Entries) {
		return nil
	}
	return r.client.save(ctx, inv)
}

func (r *run) deleted(e Entry) bool {
	return slices.ContainsFunc(r.plan.Steps, func(s Step) bool { return s.Action == Delete && s.Entry.key() == e.key() })
}

func sameEntries(a, b []Entry) bool {
	if len(a) != len(b) {
		return false
	}
	byKey := map[string]Entry{}
	for _, e := range a {
		byKey[e.key()] = e
	}
	for _, e := range b {
		old := byKey[e.key()]
		if (old.Intent == nil) != (e.Intent == nil) {
			return false
		}
		old.Intent, e.Intent = nil, nil // the hash tells
		if old != e {
			return false
		}
	}
	return true
}

// applyAll goes through the stages. The API server takes its time over CRDs, and
// pods take theirs to start: the two go on side by side. Only resources of the
// new kinds need both.
func (r *run) applyAll(ctx context.Context) error {
	g, both := errgroup.WithContext(ctx)
	access := make(chan struct{})

	g.Go(func() error {
		if err := r.stage(both, render.StageCRDs); err != nil {
			return err
		}
		select {
		case <-access:
		case <-both.Done():
			return context.Cause(both)
		}
		r.reportCompleted(render.StageCRDs)
		r.reportCompleted(render.StageAccess)
		r.reportCompleted(render.StageBindings)
		return nil
	})

	g.Go(func() error {
		for _, stage := range []render.Stage{render.StageAccess, render.StageBindings} {
			if err := r.stage(both, stage); err != nil {
				return err
			}
		}
		close(access)
		return r.stages(both, render.StageConfig, render.StageWorkloads)
	})

	if err := g.Wait(); err != nil {
		return err
	}
	return r.stages(ctx, render.StageResources, render.StageWebhooks)
}

// stages goes through stages one after the other, and reports components that
// are complete.
func (r *run) stages(ctx context.Context, list ...render.Stage) error {
	for _, stage := range list {
		if err := r.stage(ctx, stage); err != nil {
			return err
		}
		r.reportCompleted(stage)
	}
	return nil
}

// stage applies the objects of a stage and waits for what later ones need.
func (r *run) stage(ctx context.Context, stage render.Stage) error {
	var steps []Step
	for _, s := range r.plan.Steps {
		if s.intent != nil && render.StageOf(s.intent) == stage {
			steps = append(steps, s)
		}
	}
	if len(steps) == 0 {
		return nil
	}
	err := forEach(ctx, steps, func(ctx context.Context, s Step) error {
		if s.Action == Keep {
			return nil
		}
		_, err := r.client.apply(ctx, s.intent, false)
		return named(s.Entry.ID(), err)
	})
	if err != nil || r.options.NoWait && stage != render.StageCRDs {
		return err
	}
	return r.wait(ctx, stage, steps)
}

// reportCompleted reports the components whose last stage this is. Those with
// workloads are reported as these get ready.
func (r *run) reportCompleted(stage render.Stage) {
	for _, component := range r.completed(stage) {
		if r.options.NoWait || !r.hasWorkload(component) {
			r.report(component)
		}
	}
}

// completed lists the components whose last stage this is.
func (r *run) completed(stage render.Stage) []string {
	var order []string
	last := map[string]render.Stage{}
	for _, s := range r.plan.Steps {
		if s.intent == nil || s.Entry.Kind == "Namespace" {
			continue
		}
		c := s.Entry.Component
		if _, ok := last[c]; !ok {
			order = append(order, c)
		}
		last[c] = max(last[c], render.StageOf(s.intent))
	}
	return slices.DeleteFunc(order, func(c string) bool { return last[c] != stage })
}

func (r *run) hasWorkload(component string) bool {
	return slices.ContainsFunc(r.plan.Steps, func(s Step) bool {
		return s.Action != Delete && s.Entry.Component == component && s.Entry.Kind == "Deployment"
	})
}

func (r *run) report(component string) {
	if r.options.Reporter != nil {
		r.talk.Lock()
		defer r.talk.Unlock()
		r.options.Reporter.Applied(component, time.Since(r.start))
	}
}

func (r *run) waiting(what string) {
	if r.options.Reporter != nil {
		r.talk.Lock()
		defer r.talk.Unlock()
		r.options.Reporter.Waiting(what)
	}
}

// prune removes what the last install left, and waits until the pods of it are
// gone.
func (r *run) prune(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.options.Timeout)
	defer cancel()
	if err := r.client.handOver(ctx, r.plan.heir); err != nil {
		return err
	}
	var errs []error
	var removed []Entry
	for _, s := range r.plan.Steps {
		if s.Action == Delete {
			errs = append(errs, named(s.Entry.ID(), r.client.remove(ctx, s.Entry.GVK(), s.Entry.Namespace, s.Entry.Name)))
			removed = append(removed, s.Entry)
		}
	}
	if !r.options.NoWait {
		errs = append(errs, r.client.waitGone(ctx, removed))
	}
	return errors.Join(errs...)
}
