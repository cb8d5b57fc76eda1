package apply

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/isthmus-mesh/isthmus/api"
)

// listPage is how many objects are asked for at a time.
const listPage = 500

// namedObjects is how many objects of a kind are named to people.
const namedObjects = 5

// Unheeded are the objects of a kind that stand in the cluster and have no effect
// in the mesh: of a kind that it does not act on, or wrong.
type Unheeded struct {
	Group, Kind string
	// Security tells that the objects say who may call whom.
	Security bool
	// Objects are named NAMESPACE/NAME.
	Objects []string
	Why     string
}

// String is a sentence for people.
func (u Unheeded) String() string {
	objects := u.Objects
	more := ""
	if n := len(objects) - namedObjects; n > 0 {
		objects, more = objects[:namedObjects], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("%s %s%s: %s", u.Kind, strings.Join(objects, ", "), more, u.Why)
}

// Unheeded lists what stands in the cluster without effect, security first.
func (c *Client) Unheeded(ctx context.Context) ([]Unheeded, error) {
	served, err := api.NotHonouredIn(c.kube.Discovery())
	if err != nil {
		return nil, err
	}

	var security, others []Unheeded
	for _, k := range served {
		u := Unheeded{Group: k.Group, Kind: k.Kind, Security: k.Security, Why: k.Why()}
		if u.Objects, err = c.namesOf(ctx, schema.GroupVersionResource{Group: k.Group, Version: k.Version, Resource: k.Resource}); err != nil {
			return nil, fmt.Errorf("list %s: %w", k.Resource, err)
		}
		switch {
		case len(u.Objects) == 0:
		case k.Security:
			security = append(security, u)
		default:
			others = append(others, u)
		}
	}

	for _, k := range []schema.GroupVersionResource{
		{Group: api.GroupSecurity, Version: "v1", Resource: "peerauthentications"},
		{Group: api.GroupSecurity, Version: "v1", Resource: "authorizationpolicies"},
		{Group: api.GroupSecurity, Version: "v1", Resource: "requestauthentications"},
		{Group: api.GroupNetworking, Version: "v1", Resource: "serviceentries"},
		{Group: api.GroupNetworking, Version: "v1", Resource: "destinationrules"},
		{Group: api.GroupNetworking, Version: "v1", Resource: "virtualservices"},
		{Group: api.GroupNetworking, Version: "v1", Resource: "gateways"},
		{Group: api.GroupNetworking, Version: "v1", Resource: "sidecars"},
	} {
		wrong, err := c.wrongOf(ctx, k)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", k.Resource, err)
		}
		if k.Group == api.GroupSecurity {
			security = append(security, wrong...)
		} else {
			others = append(others, wrong...)
		}
	}
	return append(security, others...), nil
}

// namesOf lists the objects of a resource by their metadata.
func (c *Client) namesOf(ctx context.Context, r schema.GroupVersionResource) ([]string, error) {
	var out []string
	for next := ""; ; {
		list, err := c.meta.Resource(r).List(ctx, metav1.ListOptions{Limit: listPage, Continue: next})
		if err != nil {
			return nil, err
		}
		for i := range list.Items {
			out = append(out, list.Items[i].Namespace+"/"+list.Items[i].Name)
		}
		if next = list.Continue; next == "" {
			return out, nil
		}
	}
}

// wrongOf lists the objects of an honoured kind that are refused when they are
// read. A kind that the cluster does not have has none.
func (c *Client) wrongOf(ctx context.Context, r schema.GroupVersionResource) ([]Unheeded, error) {
	var out []Unheeded
	for next := ""; ; {
		list, err := c.dyn.Resource(r).List(ctx, metav1.ListOptions{Limit: listPage, Continue: next})
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		for i := range list.Items {
			if err := refusal(&list.Items[i]); err != nil {
				out = append(out, Unheeded{
					Group: r.Group, Kind: list.Items[i].GetKind(), Security: r.Group == api.GroupSecurity,
					Objects: []string{list.Items[i].GetNamespace() + "/" + list.Items[i].GetName()},
					Why:     "is skipped when it is read: " + err.Error(),
				})
			}
		}
		if next = list.GetContinue(); next == "" {
			return out, nil
		}
	}
}

// refusal is why an object is not in force, as far as it can be told from the
// object alone.
func refusal(u *unstructured.Unstructured) error {
	raw, err := u.MarshalJSON()
	if err != nil {
		return err
	}
	_, err = api.Decode(raw)
	return err
}
