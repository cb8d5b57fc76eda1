package resources

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/model"
)

// sidecars is every Sidecar, by the namespace that it is in; those that select
// workloads first, then the oldest first. It is immutable.
type sidecars struct {
	root        string
	byNamespace map[string][]*model.Sidecar
}

// sidecarsOf asks for all Sidecars.
type sidecarsOf struct{ source *Source }

func (q sidecarsOf) build(r *reader, _ *sidecars) *sidecars {
	out := &sidecars{root: q.source.mesh.get(r).RootNamespace, byNamespace: map[string][]*model.Sidecar{}}
	for s := range readAll(r, &q.source.store.Sidecars) {
		out.byNamespace[s.Namespace] = append(out.byNamespace[s.Namespace], s)
	}
	for _, list := range out.byNamespace {
		slices.SortFunc(list, func(a, b *model.Sidecar) int {
			if (a.Selector == nil) != (b.Selector == nil) {
				if a.Selector != nil {
					return -1
				}
				return 1
			}
			return a.CompareAge(b)
		})
	}
	return out
}

// of is the one that holds for a workload: of its namespace one that selects it, else
// the one for all, else that of the root namespace for all; nil when there is none.
func (s *sidecars) of(namespace string, labels map[string]string) *model.Sidecar {
	for _, sc := range s.byNamespace[namespace] {
		if sc.Selector == nil || matchLabels(sc.Selector, labels) {
			return sc
		}
	}
	for _, sc := range s.byNamespace[s.root] {
		if sc.Selector == nil {
			return sc
		}
	}
	return nil
}

// egress is which part of the mesh the proxies of a scope are told of. Nil is all of
// it. It is immutable.
type egress struct {
	// everything tells that only outbound says something.
	everything bool
	hosts      []model.EgressHost // without "."
	outbound   model.OutboundMode
}

// newEgress is what a Sidecar says to clients of a namespace; nil when there is none,
// or it says nothing.
func newEgress(s *model.Sidecar, namespace string) *egress {
	if s == nil || s.Egress == nil && s.Outbound == model.OutboundByMesh {
		return nil
	}
	e := &egress{everything: s.Egress == nil, outbound: s.Outbound}
	for _, h := range s.Egress {
		if h.Namespace == "." {
			h.Namespace = namespace
		}
		e.hosts = append(e.hosts, h)
	}
	return e
}

// text tells those apart that say different things, in few letters: it is part of the
// names of Views, which stand in logs. It is "" for nil.
func (e *egress) text() string {
	if e == nil {
		return ""
	}
	sum := sha256.Sum256(fmt.Append(nil, e.everything, e.outbound, e.hosts))
	return hex.EncodeToString(sum[:16])
}

// limits tells whether there is anything that is not told.
func (e *egress) limits() bool { return e != nil && !e.everything }

// admits tells whether a host of a namespace is told of. A wildcard lets what is below
// it through, other wildcards too.
func (e *egress) admits(namespace, host string) bool {
	if !e.limits() {
		return true
	}
	return slices.ContainsFunc(e.hosts, func(h model.EgressHost) bool {
		if h.Namespace != "*" && h.Namespace != namespace {
			return false
		}
		if suffix, wildcard := strings.CutPrefix(h.Host, "*"); wildcard {
			return strings.HasSuffix(host, suffix)
		}
		return h.Host == host
	})
}

// scopeMeshOf asks for the mesh configuration as it holds for a scope.
type scopeMeshOf struct{ scope *scope }

func (q scopeMeshOf) build(r *reader, old *model.Mesh) *model.Mesh {
	mesh, e := q.scope.source.mesh.get(r), q.scope.egress
	if e == nil || e.outbound == model.OutboundByMesh || mesh.RegistryOnly == (e.outbound == model.OutboundRegistryOnly) {
		return mesh
	}
	own := *mesh
	own.RegistryOnly = e.outbound == model.OutboundRegistryOnly
	return &own
}

// routedTo are the hosts to which VirtualServices lead that the scope is told of: to be
// told of a route is to be told of where it leads, as in Istio. It is nil where
// everything is told of anyway.
func (sc *scope) routedTo(r *reader, all *hosts) map[string]bool {
	if !sc.egress.limits() {
		return nil
	}
	out := map[string]bool{}
	add := func(rule *model.VirtualService) {
		if rule == nil {
			return
		}
		for d := range rule.Destinations() {
			out[d.Host] = true
		}
	}

	rules, root := sc.source.virtuals.get(r), sc.source.mesh.get(r).RootNamespace
	for _, h := range all.list {
		if slices.ContainsFunc(h.rows, func(svc *model.Service) bool { return sc.egress.admits(svc.Namespace, h.name) }) {
			add(rules.find(sc.key.namespace, root, h))
		}
	}
	for _, b := range rules.beyond(sc.key.namespace, root, all.byName) {
		if sc.egress.admits(b.rule.Namespace, b.name) {
			add(b.rule)
		}
	}
	return out
}
