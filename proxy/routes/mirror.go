package routes

import (
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

// Mirror is a compiled config.Mirror.
type Mirror struct {
	*config.Mirror
	cluster *upstream.Ref
	timeout time.Duration
}

func compileMirrors(a *config.RouteAction, clusters *upstream.Set) []Mirror {
	var out []Mirror
	for i := range a.Mirrors {
		m := &a.Mirrors[i]
		if m.Share > 0 {
			out = append(out, Mirror{m, clusters.Ref(m.Cluster), a.Timeout})
		}
	}
	return out
}

// Route is the route of the copy of a request for an authority. It has the time that the
// request itself has, and is sent once, as Envoy does.
func (m *Mirror) Route(authority string) *Route {
	a := &config.RouteAction{Cluster: m.Cluster, NotFoundStatus: 503}
	if !m.KeepHost {
		a.HostRewrite = shadowOf(authority)
	}
	return &Route{Route: &config.Route{Action: a}, cluster: m.cluster, Timeout: m.timeout, Retries: &Retries{tries: 1}}
}

// shadowOf is the authority of a copy: with -shadow behind the host, before the port.
func shadowOf(authority string) string {
	host := WithoutPort(authority)
	return host + "-shadow" + strings.TrimPrefix(authority, host)
}
