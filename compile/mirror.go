package compile

import (
	networking "istio.io/api/networking/v1alpha3"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/model"
)

// mirrors are those of a route that get any of its requests.
func (b *routeBuilder) mirrors(r *networking.HTTPRoute) []model.HTTPMirror {
	var out []model.HTTPMirror
	for _, m := range api.Mirrors(r) {
		share := model.PercentShare(100)
		if m.Percentage != nil {
			share = model.PercentShare(m.Percentage.Value)
		}
		if share > 0 {
			out = append(out, model.HTTPMirror{To: b.destination(m.Destination, 1, 1), Share: share})
		}
	}
	return out
}
