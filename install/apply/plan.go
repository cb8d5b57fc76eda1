package apply

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/install/render"
	"github.com/isthmus-mesh/isthmus/install/values"
)

// Action is what a plan does to one object.
type Action string

// The actions.
const (
	Create Action = "create"
	Change Action = "change"
	Delete Action = "delete"
	Keep   Action = "keep"
	// Leave is for what somebody else has installed: it is neither changed nor
	// taken into the inventory.
	Leave Action = "leave"
)

// Desired is what a revision of the mesh, or an addition to it, should consist of.
type Desired struct {
	Revision  string
	Addition  string // see Inventory
	Namespace string
	Version   string
	// Spec is the IstioOperator spec that the objects were made from, as YAML.
	Spec    string
	Objects []render.Object
}

// NewDesired is what a configuration asks for: the objects that it was rendered to,
// by the installer's version.
func NewDesired(c *values.Config, objs []render.Object, version string) (Desired, error) {
	spec, err := yaml.Marshal(c.Given)
	if err != nil {
		return Desired{}, fmt.Errorf("write the configuration down: %w", err)
	}
	return Desired{
		Revision:  c.Revision,
		Addition:  c.Addition,
		Namespace: c.Namespace,
		Version:   version,
		Spec:      string(spec),
		Objects:   objs,
	}, nil
}

// Step is one object of a plan.
type Step struct {
	Action Action
	Entry  Entry
	// Changes are the fields that change, when Action is Change and they are
	// known.
	Changes []FieldChange

	rendered *unstructured.Unstructured // what is wanted, or was
	intent   *unstructured.Unstructured // what is applied: rendered, but for fields left to others
	hash     string                     // of rendered
}

// Plan is the difference between what is wanted and what is there.
type Plan struct {
	Desired Desired
	// Steps are in the order to do them in.
	Steps []Step

	old    *Inventory // of the same revision; nil on a first install
	others map[string]bool
	heir   *unstructured.Unstructured // see Client.heir; nil when nothing is handed over
}

// Changes counts the steps that do something.
func (p *Plan) Changes() int {
	n := 0
	for _, s := range p.Steps {
		if s.Action != Keep && s.Action != Leave {
			n++
		}
	}
	return n
}

// Count returns how many steps have an action.
func (p *Plan) Count(a Action) int {
	n := 0
	for _, s := range p.Steps {
		if s.Action == a {
			n++
		}
	}
	return n
}

// Plan compares. It changes nothing.
func (c *Client) Plan(ctx context.Context, d Desired) (*Plan, error) {
	p := &Plan{Desired: d, others: map[string]bool{}}
	invs, err := c.Inventories(ctx)
	if err != nil {
		return nil, err
	}

	var staying []Inventory
	for i, inv := range invs {
		if inv.Revision == d.Revision && inv.Addition == d.Addition {
			if inv.Namespace != d.Namespace {
				return nil, fmt.Errorf("%s is installed in namespace %s; uninstall it there first, or give another --revision", &inv, inv.Namespace)
			}
			if inv.Leaving {
				return nil, fmt.Errorf("%s is being removed, or its removal was interrupted; run uninstall --purge to its end, then install", &inv)
			}
			p.old = &invs[i]
			continue
		}
		staying = append(staying, inv)
		for _, e := range inv.Entries {
			p.others[e.key()] = true
		}
	}

	steps := make([]Step, len(d.Objects))
	index := make([]int, len(d.Objects))
	for i := range index {
		index[i] = i
	}
	err = forEach(ctx, index, func(ctx context.Context, i int) error {
		var err error
		steps[i], err = c.planOne(ctx, d.Objects[i], p)
		return named(d.Objects[i].ID(), err)
	})
	if err != nil {
		return nil, err
	}

	p.Steps = append(steps, p.leftovers()...)
	if p.old != nil && !p.wantsDefaultValidator() {
		p.heir, err = c.heir(ctx, []Inventory{*p.old}, staying)
	}
	return p, err
}

func (p *Plan) wantsDefaultValidator() bool {
	return slices.ContainsFunc(p.Desired.Objects, func(o render.Object) bool {
		return isDefaultValidator(o.GetKind(), o.GetName())
	})
}

// planOne decides what to do about one object.
func (c *Client) planOne(ctx context.Context, o render.Object, p *Plan) (Step, error) {
	s := Step{Entry: entryOf(o), rendered: o.Unstructured, intent: o.Unstructured}
	var err error
	if s.hash, err = hashOf(o.Unstructured); err != nil {
		return s, err
	}

	was := p.old.entry(s.Entry)
	live, err := c.Get(ctx, o.GroupVersionKind(), o.GetNamespace(), o.GetName())
	if err != nil {
		return s, err
	}
	if live == nil || live.GetDeletionTimestamp() != nil {
		s.Action = Create
		return s, nil
	}

	if Foreign(o.Unstructured, live) {
		s.Action, s.rendered, s.intent = Leave, nil, nil
		return s, nil
	}
	if was == nil {
		// A namespace that is there without our mark is the user's.
		// Everything else that has our names and is in no inventory comes
		// from an interrupted or a manual install, and is ours from now on.
		s.Entry.Found = o.GetKind() == "Namespace" && live.GetAnnotations()[madeAnnotation] == ""
	} else {
		s.Entry.Found = was.Found
	}

	others, err := c.answeredByInstalled(ctx, o.Unstructured, live)
	if err != nil {
		return s, err
	}
	if others {
		s.Action, s.intent = Keep, live
		return s, nil
	}

	s.intent = KeepOwned(o.Unstructured, live)
	diff := Compare(s.intent.Object, live.Object)
	if len(diff) == 0 && was != nil && was.Hash == s.hash {
		s.Action = Keep
		return s, nil
	}
	return s, c.planChange(ctx, &s, live, diff)
}

// planChange asks the server what an application would change: defaults,
// removed fields and other spellings of one value are its business.
func (c *Client) planChange(ctx context.Context, s *Step, live *unstructured.Unstructured, diff []FieldChange) error {
	s.Action = Change
	s.Changes = diff

	after, err := c.apply(ctx, s.intent, true)
	if apierrors.IsNotFound(err) || apierrors.IsInvalid(err) || apierrors.IsInternalError(err) {
		// The change itself will tell (an immutable field, a webhook without
		// a server): it comes after what may help.
		return nil
	}
	if err != nil {
		return err
	}

	before := live.DeepCopy()
	for _, u := range []*unstructured.Unstructured{before, after} {
		u.SetManagedFields(nil)
		u.SetResourceVersion("")
		u.SetGeneration(0)
		unstructured.RemoveNestedField(u.Object, "status")
	}

	s.Changes = Changed(before.Object, after.Object)
	if len(s.Changes) == 0 {
		s.Action = Keep
	}
	return nil
}

// leftovers plans the removal of what the last install of this revision had
// and this one does not, last applied first. CRDs stay, for users' resources
// would go with them; namespaces stay, and so does what another revision has.
func (p *Plan) leftovers() []Step {
	if p.old == nil {
		return nil
	}
	wanted := map[string]bool{}
	for _, o := range p.Desired.Objects {
		wanted[entryOf(o).key()] = true
	}
	var out []Step
	for _, e := range p.old.Entries {
		if wanted[e.key()] || p.others[e.key()] || e.Found || e.Kind == "CustomResourceDefinition" || e.Kind == "Namespace" {
			continue
		}
		out = append(out, Step{Action: Delete, Entry: e, rendered: e.Intent})
	}
	sortForRemoval(out)
	return out
}

// entry finds an object in an inventory, which may be nil.
func (inv *Inventory) entry(e Entry) *Entry {
	if inv == nil {
		return nil
	}
	i := slices.IndexFunc(inv.Entries, func(x Entry) bool { return x.key() == e.key() })
	if i < 0 {
		return nil
	}
	return &inv.Entries[i]
}

// sortForRemoval puts steps in the reverse of the order of application.
func sortForRemoval(steps []Step) {
	objs := make([]render.Object, len(steps))
	byID := map[string]Step{}
	for i, s := range steps {
		objs[i] = render.Object{Unstructured: newObject(s.Entry), Component: s.Entry.Component}
		byID[entryOf(objs[i]).key()] = s
	}
	render.Sort(objs)
	slices.Reverse(objs)
	for i, o := range objs {
		steps[i] = byID[entryOf(o).key()]
	}
}

// newObject makes an object that has nothing but the identity of an entry.
func newObject(e Entry) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetGroupVersionKind(e.GVK())
	u.SetNamespace(e.Namespace)
	u.SetName(e.Name)
	return u
}

// KeepOwned returns the intent with the fields that the running control plane owns
// as they are in the cluster, so that install does not fight it: whether a webhook
// that does not answer blocks (failurePolicy). One that called another control plane
// until now blocks when the new one says so.
func KeepOwned(intent, live *unstructured.Unstructured) *unstructured.Unstructured {
	if intent.GetKind() != "ValidatingWebhookConfiguration" || called(intent) != called(live) {
		return intent
	}
	out := intent.DeepCopy()
	policies := map[any]any{}
	have, _, _ := unstructured.NestedSlice(live.Object, "webhooks")
	for _, w := range have {
		m, _ := w.(map[string]any)
		policies[m["name"]] = m["failurePolicy"]
	}
	want, _, _ := unstructured.NestedSlice(out.Object, "webhooks")
	for _, w := range want {
		m, _ := w.(map[string]any)
		if p := policies[m["name"]]; p != nil {
			m["failurePolicy"] = p
		}
	}
	out.Object["webhooks"] = want
	return out
}
