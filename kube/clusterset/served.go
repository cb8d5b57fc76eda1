package clusterset

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"

	"github.com/isthmus-mesh/isthmus/kube"
)

// served finds the version in which a cluster serves a resource of the Multi-Cluster
// Services API; it is empty when there is none.
func served(ctx context.Context, clients kube.Clients, resource string) (none schema.GroupVersionResource, err error) {
	asked := discovery.ToDiscoveryInterfaceWithContext(clients.Kube.Discovery())
	groups, err := asked.ServerGroupsWithContext(ctx)
	if err != nil {
		return none, err
	}

	for _, g := range groups.Groups {
		if g.Name != kube.GroupMultiCluster {
			continue
		}
		list, err := asked.ServerResourcesForGroupVersionWithContext(ctx, g.PreferredVersion.GroupVersion)
		if err != nil {
			return none, err
		}
		for _, res := range list.APIResources {
			if res.Name == resource {
				return schema.GroupVersionResource{Group: g.Name, Version: g.PreferredVersion.Version, Resource: res.Name}, nil
			}
		}
	}
	return none, nil
}
