package compile

import (
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/model"
)

// Sidecar makes the row of a valid Sidecar.
func Sidecar(c model.ClusterID, obj *api.Object) *model.Sidecar {
	s := obj.Spec.(*networking.Sidecar)
	row := &model.Sidecar{
		Cluster:   c,
		Namespace: obj.Namespace,
		Name:      obj.Name,
		Created:   obj.Created,
	}
	if labels := s.GetWorkloadSelector().GetLabels(); len(labels) > 0 {
		row.Selector = labels
	}

	for _, e := range s.Egress {
		for _, h := range e.Hosts {
			namespace, host, _ := strings.Cut(h, "/")
			row.Egress = append(row.Egress, model.EgressHost{Namespace: namespace, Host: api.PlainHost(host)})
		}
	}

	// Given without a mode it is REGISTRY_ONLY, as in Istio.
	if s.OutboundTrafficPolicy != nil {
		row.Outbound = model.OutboundRegistryOnly
		if s.OutboundTrafficPolicy.Mode == networking.OutboundTrafficPolicy_ALLOW_ANY {
			row.Outbound = model.OutboundAllowAny
		}
	}
	return row
}
