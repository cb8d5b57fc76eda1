package apply

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/install/render"
)

// CreateMissing makes the namespace and those of the objects, in their order,
// that are not there, and returns the names of what it made. What is there stays
// as it is.
func (c *Client) CreateMissing(ctx context.Context, namespace string, objs []render.Object) (made []string, err error) {
	there, err := c.Get(ctx, corev1.SchemeGroupVersion.WithKind("Namespace"), "", namespace)
	if err != nil {
		return nil, named("Namespace/"+namespace, err)
	}
	if there == nil {
		if err := c.makeNamespace(ctx, namespace); err != nil {
			return nil, named("Namespace/"+namespace, err)
		}
		made = append(made, "Namespace/"+namespace)
	}

	for _, o := range objs {
		there, err := c.Get(ctx, o.GroupVersionKind(), o.GetNamespace(), o.GetName())
		if err != nil {
			return made, named(o.ID(), err)
		}
		if there != nil {
			continue
		}
		if _, err := c.apply(ctx, o.Unstructured, false); err != nil {
			return made, named(o.ID(), err)
		}
		made = append(made, o.ID())
	}
	return made, nil
}
