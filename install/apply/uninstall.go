package apply

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/install/render"
)

// Removal is what an uninstallation takes out of a cluster.
type Removal struct {
	// Entries are in the order of removal.
	Entries []Entry
	// UserResources names resources of the Istio APIs that go with their
	// CRDs.
	UserResources []string
	// Kept says what stays, and why.
	Kept []string

	inventories []Inventory
	purge       bool
	narrow      bool                       // of one inventory: what control planes made stays
	heir        *unstructured.Unstructured // see Client.heir
}

// PlanRemoval lists what removing one revision takes out, its additions included,
// or one addition alone, when it is named; with purge, what removing every revision
// and all that they share does.
func (c *Client) PlanRemoval(ctx context.Context, revision, addition string, purge bool) (*Removal, error) {
	invs, err := c.Inventories(ctx)
	if err != nil {
		return nil, err
	}

	r := &Removal{purge: purge}
	others := map[string]string{}
	var staying []Inventory
	for _, inv := range invs {
		if purge || inv.Revision == revision && (addition == "" || addition == inv.Addition) {
			r.inventories = append(r.inventories, inv)
			continue
		}
		staying = append(staying, inv)
		for _, e := range inv.Entries {
			others[e.key()] = inv.String()
		}
	}

	if len(r.inventories) == 0 {
		wanted := Inventory{Revision: revision, Addition: addition}
		return nil, fmt.Errorf("%s is not installed; installed are: %s", &wanted, revisions(invs))
	}

	r.collect(others)
	if purge {
		return r, c.userResources(ctx, r)
	}

	if r.heir, err = c.heir(ctx, r.inventories, staying); r.heir != nil {
		r.Kept = append(r.Kept, fmt.Sprintf("ValidatingWebhookConfiguration/%s: calls revision %s from now on", r.heir.GetName(), r.heir.GetLabels()[api.LabelRevision]))
	}
	return r, err
}

// PlanRemovalOf lists what removing exactly one inventory takes out, its CRDs and
// namespaces included.
func (c *Client) PlanRemovalOf(ctx context.Context, revision string) (*Removal, error) {
	invs, err := c.Inventories(ctx)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(invs, func(inv Inventory) bool { return inv.Revision == revision })
	if at < 0 {
		return nil, fmt.Errorf("%s is not installed", revision)
	}
	r := &Removal{inventories: invs[at : at+1], purge: true, narrow: true}
	others := map[string]string{}
	for i, inv := range invs {
		if i != at {
			for _, e := range inv.Entries {
				others[e.key()] = inv.String()
			}
		}
	}
	r.collect(others)
	return r, c.userResources(ctx, r)
}

// Release takes a finalizer off every object of a kind, before its CRD goes.
func (c *Client) Release(ctx context.Context, gvk schema.GroupVersionKind, finalizer string, r *Removal) error {
	list, err := c.dyn.Resource(ResourceOf(gvk)).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}

	// The controller goes first, or it would put the finalizer back.
	for _, e := range r.Entries {
		if e.Kind == "Deployment" {
			if err := c.remove(ctx, e.GVK(), e.Namespace, e.Name); err != nil {
				return named(e.ID(), err)
			}
			if err := c.waitGone(ctx, []Entry{e}); err != nil {
				return err
			}
		}
	}

	for _, u := range list.Items {
		err := retry(ctx, func() error { return c.release(ctx, gvk, u.GetNamespace(), u.GetName(), finalizer) })
		if err != nil {
			return named(u.GetKind()+"/"+u.GetNamespace()+"/"+u.GetName(), err)
		}
	}
	return nil
}

func (c *Client) release(ctx context.Context, gvk schema.GroupVersionKind, namespace, name, finalizer string) error {
	u, err := c.Get(ctx, gvk, namespace, name)
	if err != nil || u == nil || !slices.Contains(u.GetFinalizers(), finalizer) {
		return err
	}
	u.SetFinalizers(slices.DeleteFunc(u.GetFinalizers(), func(f string) bool { return f == finalizer }))
	_, err = c.resource(gvk, namespace).Update(ctx, u, metav1.UpdateOptions{FieldManager: FieldManager})
	return err
}

// Put applies one object on its own, in no inventory.
func (c *Client) Put(ctx context.Context, o render.Object) error {
	_, err := c.apply(ctx, o.Unstructured, false)
	return named(o.ID(), err)
}

// collect sorts the inventories' entries into what goes and what stays.
func (r *Removal) collect(others map[string]string) {
	var steps []Step
	seen := map[string]bool{}
	crds := 0
	for _, inv := range r.inventories {
		for _, e := range inv.Entries {
			switch {
			case seen[e.key()]:
				continue
			case e.Found:
				r.Kept = append(r.Kept, e.ID()+": it was there before")
			case others[e.key()] != "":
				r.Kept = append(r.Kept, e.ID()+": "+others[e.key()]+" has it too")
			case e.Kind == "CustomResourceDefinition" && !r.purge:
				crds++
			case e.Kind == "Namespace" && !r.purge:
				r.Kept = append(r.Kept, e.ID()+": remove it with --purge")
			default:
				steps = append(steps, Step{Entry: e})
			}
			seen[e.key()] = true
		}
	}

	if crds > 0 {
		r.Kept = append(r.Kept, fmt.Sprintf("%d CRDs, and the resources of their kinds: remove them with --purge", crds))
	}

	sortForRemoval(steps)
	for _, s := range steps {
		r.Entries = append(r.Entries, s.Entry)
	}
}

func revisions(invs []Inventory) string {
	if len(invs) == 0 {
		return "none"
	}
	var names []string
	for _, inv := range invs {
		names = append(names, inv.String())
	}
	return strings.Join(names, ", ")
}

// userResources finds the resources that go with the CRDs and are not ours.
func (c *Client) userResources(ctx context.Context, r *Removal) error {
	ours := map[string]bool{}
	for _, e := range r.Entries {
		ours[e.ID()] = true
	}
	var mu sync.Mutex
	err := forEach(ctx, r.Entries, func(ctx context.Context, e Entry) error {
		if e.Kind != "CustomResourceDefinition" {
			return nil
		}
		ids, err := c.resourcesOf(ctx, e)
		mu.Lock()
		defer mu.Unlock()
		for _, id := range ids {
			if !ours[id] {
				r.UserResources = append(r.UserResources, id)
			}
		}
		return named(e.ID(), err)
	})
	slices.Sort(r.UserResources)
	return err
}

// resourcesOf names the resources of the kind that a CRD defines.
func (c *Client) resourcesOf(ctx context.Context, e Entry) ([]string, error) {
	crd := e.Intent
	if crd == nil {
		var err error
		if crd, err = c.Get(ctx, e.GVK(), "", e.Name); err != nil || crd == nil {
			return nil, err
		}
	}

	version, ok := servedVersion(crd)
	if !ok {
		return nil, nil
	}

	plural, group, _ := strings.Cut(e.Name, ".")
	list, err := c.dyn.Resource(schema.GroupVersionResource{Group: group, Version: version, Resource: plural}).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil // not served yet, or any more
	}
	if err != nil {
		return nil, err
	}

	var out []string
	for _, u := range list.Items {
		out = append(out, entryOf(render.Object{Unstructured: &u}).ID())
	}
	return out, nil
}

// servedVersion returns a version that a CRD serves.
func servedVersion(crd *unstructured.Unstructured) (string, bool) {
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	for _, v := range versions {
		m, _ := v.(map[string]any)
		if name, _ := m["name"].(string); m["served"] == true && name != "" {
			return name, true
		}
	}
	return "", false
}

// Remove carries a removal out and waits until everything is gone. It can be
// repeated after an interruption.
//
// A namespace is the first to go, for Kubernetes lets five seconds pass before it
// looks into one: the rest is done by then. The inventory in it is held until
// everything else has been asked to go.
func (c *Client) Remove(ctx context.Context, r *Removal, o Options) error {
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()

	byStage := map[render.Stage][]Entry{}
	var namespaces []Entry
	for _, e := range r.Entries {
		if e.Kind == "Namespace" {
			namespaces = append(namespaces, e)
			continue
		}
		st := stageOfEntry(e)
		byStage[st] = append(byStage[st], e)
	}

	if err := c.handOver(ctx, r.heir); err != nil {
		return err
	}
	if err := c.removeStages(ctx, byStage, render.StageWebhooks, render.StageResources); err != nil {
		return err
	}

	leaving, err := c.removeNamespaces(ctx, r, namespaces)
	if err != nil {
		return err
	}
	if err := c.hurry(ctx, byStage[render.StageWorkloads], leaving); err != nil {
		return err
	}

	// Access goes before configuration: a control plane that is on its way
	// out then cannot write again what is being removed.
	err = c.removeStages(ctx, byStage, render.StageWorkloads, render.StageBindings, render.StageAccess, render.StageConfig, render.StageCRDs)
	if err == nil && r.purge && !r.narrow {
		err = c.removeMade(ctx, r)
	}
	if err != nil {
		return err
	}

	for _, inv := range r.inventories {
		if err := c.hold(ctx, inv, false); err != nil {
			return err
		}
	}

	if err := c.waitGone(ctx, slices.Concat(byStage[render.StageWorkloads], byStage[render.StageCRDs], namespaces)); err != nil {
		return err
	}

	for _, inv := range r.inventories {
		if err := c.forget(ctx, inv); err != nil {
			return err
		}
	}
	return nil
}

// removeStages asks for the removal of the entries of stages, one stage after
// the other.
func (c *Client) removeStages(ctx context.Context, entries map[render.Stage][]Entry, order ...render.Stage) error {
	for _, st := range order {
		err := forEach(ctx, entries[st], func(ctx context.Context, e Entry) error {
			return named(e.ID(), c.remove(ctx, e.GVK(), e.Namespace, e.Name))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func stageOfEntry(e Entry) render.Stage {
	return render.StageOf(newObject(e))
}

// waitGone waits until entries that are being deleted are gone: Deployments with
// their pods, CRDs with their resources, namespaces with all that is in them.
func (c *Client) waitGone(ctx context.Context, entries []Entry) error {
	return forEach(ctx, entries, func(ctx context.Context, e Entry) error {
		return named(e.ID(), c.gone(ctx, e.GVK(), e.Namespace, e.Name))
	})
}
