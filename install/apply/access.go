package apply

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	authv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AccessError lists what the user may not do.
type AccessError struct{ Missing []string }

func (e *AccessError) Error() string {
	return "this user may not do what the installation needs; missing are:\n  " + strings.Join(e.Missing, "\n  ") +
		"\nnothing was changed"
}

// CheckAccess finds out, before anything is changed, whether the user may do
// all that bringing d about takes. It returns an *AccessError when not.
func (c *Client) CheckAccess(ctx context.Context, d Desired) error {
	if ok, err := c.may(ctx, authv1.ResourceAttributes{Group: "*", Resource: "*", Verb: "*"}); err != nil || ok {
		return err
	}
	var mu sync.Mutex
	var missing []string
	err := forEach(ctx, needs(d), func(ctx context.Context, a authv1.ResourceAttributes) error {
		ok, err := c.may(ctx, a)
		if !ok && err == nil {
			mu.Lock()
			missing = append(missing, describeNeed(a))
			mu.Unlock()
		}
		return err
	})
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		missing = slices.Compact(missing)
		return &AccessError{Missing: missing}
	}
	return nil
}

func (c *Client) may(ctx context.Context, a authv1.ResourceAttributes) (bool, error) {
	r, err := c.kube.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx,
		&authv1.SelfSubjectAccessReview{Spec: authv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &a}}, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("ask the API server what this user may do: %w", err)
	}
	return r.Status.Allowed, nil
}

// needs lists the permissions that an installation takes.
func needs(d Desired) []authv1.ResourceAttributes {
	out := []authv1.ResourceAttributes{
		{Resource: "configmaps", Verb: "list"},
		{Resource: "configmaps", Verb: "create", Namespace: d.Namespace},
		{Resource: "configmaps", Verb: "patch", Namespace: d.Namespace},
		{Group: "apps", Resource: "deployments", Verb: "watch", Namespace: d.Namespace},
	}
	seen := map[authv1.ResourceAttributes]bool{}
	for _, o := range d.Objects {
		gvr := ResourceOf(o.GroupVersionKind())
		for _, verb := range []string{"get", "create", "patch", "delete"} {
			a := authv1.ResourceAttributes{Group: gvr.Group, Resource: gvr.Resource, Verb: verb, Namespace: o.GetNamespace()}
			if verb == "delete" && (o.GetKind() == "Namespace" || o.GetKind() == "CustomResourceDefinition") || seen[a] {
				continue
			}
			seen[a] = true
			out = append(out, a)
		}
	}
	return out
}

func describeNeed(a authv1.ResourceAttributes) string {
	name := a.Resource
	if a.Group != "" {
		name += "." + a.Group
	}
	if a.Namespace != "" {
		return fmt.Sprintf("%s %s in namespace %s", a.Verb, name, a.Namespace)
	}
	return fmt.Sprintf("%s %s (whole cluster)", a.Verb, name)
}
