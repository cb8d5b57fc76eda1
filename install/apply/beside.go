package apply

import (
	"context"
	"fmt"

	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/api/operator"
	"github.com/isthmus-mesh/isthmus/install/values"
)

// Beside returns the document that an addition is laid over: what the control
// plane of its revision, where it is installed, has as settings of the whole mesh,
// such as the cluster's name and the images. It is nil when c is no addition, or
// there is no such control plane.
func (c *Client) Beside(ctx context.Context, config *values.Config) (*values.File, error) {
	if config.Addition == "" {
		return nil, nil
	}
	invs, err := c.Inventories(ctx)
	if err != nil {
		return nil, err
	}
	for _, inv := range invs {
		if inv.Revision == config.Revision && inv.Addition == "" {
			return inv.settings()
		}
	}
	return nil, nil
}

// settings are those of an inventory's configuration that hold for the whole mesh.
func (inv *Inventory) settings() (*values.File, error) {
	spec := map[string]any{}
	if err := yaml.Unmarshal([]byte(inv.Spec), &spec); err != nil {
		return nil, fmt.Errorf("the inventory of %s: %w", inv, err)
	}
	shared := map[string]any{"namespace": inv.Namespace, "values": map[string]any{"global": values.Section(spec, "values", "global")}}
	for _, key := range []string{"hub", "tag", "meshConfig"} {
		if v, ok := spec[key]; ok {
			shared[key] = v
		}
	}
	data, err := yaml.Marshal(map[string]any{"apiVersion": operator.APIVersion, "kind": operator.Kind, "spec": shared})
	return &values.File{Name: "the installed configuration of " + inv.String(), Data: data}, err
}
