package resources

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
)

// What is said on ServiceExports: the types of conditions and their reasons, as the
// Multi-Cluster Services API names them.
//
// Source: https://pkg.go.dev/sigs.k8s.io/mcs-api@v0.5.2/pkg/apis/v1beta1
const (
	conditionValid    = "Valid"
	conditionReady    = "Ready"
	conditionConflict = "Conflict"

	reasonValid               = "Valid"
	reasonNoService           = "NoService"
	reasonInvalidType         = "InvalidServiceType"
	reasonExported            = "Exported"
	reasonFailed              = "Failed"
	reasonNoConflicts         = "NoConflicts"
	reasonPort                = "PortConflict"
	reasonType                = "TypeConflict"
	reasonAffinity            = "SessionAffinityConflict"
	reasonAffinityConfig      = "SessionAffinityConfigConflict"
	reasonInternalPolicy      = "InternalTrafficPolicyConflict"
	reasonTrafficDistribution = "TrafficDistributionConflict"
)

// maxDisputes is how many conflicts of one Service a message names.
const maxDisputes = 8

// transportTCP is the only transport that the mesh carries.
const transportTCP = "TCP"

// ExportStates are what became of the ServiceExports of all clusters that can be told
// so, sorted. The channel is closed when it may be something else.
func (s *Source) ExportStates() ([]model.ExportState, <-chan struct{}) {
	// Taken before anything is read, so that no change falls between.
	changed, _ := s.hub.topic(xds.TypeCluster)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.newReaderLocked()

	served := map[string]*model.Service{}
	for _, h := range s.hosts.get(r, hostsOf{s, s.cfg.Cluster}).list {
		if h.vantage.clusterSet {
			for _, row := range h.rows {
				served[model.ExportKey(row.Cluster, row.Namespace, row.Name)] = row
			}
		}
	}

	// A control plane that knows of one cluster, or has yet to read another, cannot
	// say that nobody disagrees.
	clusters, unread := 0, 0
	gone := map[model.ClusterID]bool{}
	for c := range readAll(r, &s.store.Clusters) {
		clusters++
		if !c.Synced {
			unread++
		}
		gone[c.ID] = c.Stale
	}
	unsure := clusters < 2 || unread > 0

	type name struct{ namespace, name string }
	groups := map[name]*offers{}
	for e := range readAll(r, &s.store.Exports) {
		key := name{e.Namespace, e.Name}
		if groups[key] == nil {
			groups[key] = &offers{unsure: unsure}
		}
		groups[key].add(e, served[e.Key()])
	}

	var out []model.ExportState
	for _, g := range groups {
		out = append(out, g.states()...)
	}
	out = slices.DeleteFunc(out, func(s model.ExportState) bool { return gone[s.Cluster] })
	slices.SortFunc(out, func(a, b model.ExportState) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out, changed
}

// offers are the exports of one name.
type offers struct {
	all []offer
	// unsure tells that not all of them may be known.
	unsure bool
}

// offer is an export with the row of its Service; nil where the mesh does not serve
// one.
type offer struct {
	*model.Export
	row *model.Service
}

func (o *offers) add(e *model.Export, row *model.Service) {
	if e.Offer == nil || e.Offer.Alias {
		row = nil
	}
	o.all = append(o.all, offer{e, row})
}

// states says of each export what became of it.
func (o *offers) states() []model.ExportState {
	conflict := o.conflict()
	var out []model.ExportState
	for _, e := range o.all {
		valid := e.valid()
		state := model.ExportState{
			Cluster: e.Cluster, Namespace: e.Namespace, Name: e.Name, UID: e.UID, Generation: e.Generation,
			Conditions: []model.Condition{valid, e.ready(valid), conflict},
		}
		if e.row == nil {
			// It has no part in what is exported, nor in a conflict.
			state.Conditions[2] = o.noConflict()
		}
		out = append(out, state)
	}
	return out
}

func (e *offer) valid() model.Condition {
	c := model.Condition{Type: conditionValid}
	switch {
	case e.Offer == nil:
		c.Reason, c.Message = reasonNoService, "this cluster has no Service of this name in this namespace"
	case e.Offer.Alias:
		c.Reason, c.Message = reasonInvalidType, "the Service is of type ExternalName, a name for something elsewhere: make it in each cluster instead"
	default:
		c.Holds, c.Reason = true, reasonValid
	}
	return c
}

// ready tells whether the mesh leads clients to the Service, and what of it has no
// effect there.
func (e *offer) ready(valid model.Condition) model.Condition {
	c := model.Condition{Type: conditionReady, Reason: reasonFailed}
	switch {
	case !valid.Holds:
		c.Message = valid.Message
	case e.row == nil && len(otherThanTCP(e.Offer.Ports)) == len(e.Offer.Ports):
		c.Message = "the mesh carries TCP alone, and the Service has no TCP port"
	case e.row == nil:
		c.Message = "the mesh does not read the Service: discoverySelectors of the mesh configuration leave its namespace out"
	default:
		c.Holds, c.Reason = true, reasonExported
		c.Message = "clients reach it as " + clusterSetName(e.Namespace, e.Name) + e.without()
	}
	return c
}

// without says what of the export and its Service has no effect.
func (e *offer) without() string {
	out := ""
	if others := otherThanTCP(e.Offer.Ports); len(others) > 0 {
		out += "; the mesh carries TCP alone, and not " + strings.Join(others, ", ")
	}
	if e.Offer.Affinity.ByClientIP {
		out += "; the mesh does not honour sessionAffinity"
	}
	if e.Labelled {
		out += "; exportedLabels and exportedAnnotations are not passed on"
	}
	return out
}

// otherThanTCP names the ports that the mesh does not carry.
func otherThanTCP(ports []model.ServicePort) []string {
	var out []string
	for _, p := range ports {
		if p.Transport != transportTCP {
			out = append(out, spell(p))
		}
	}
	return out
}

// spell writes a port as people do.
func spell(p model.ServicePort) string {
	out := fmt.Sprintf("%d/%s", p.Number, p.Transport)
	if p.AppProtocol != "" {
		out += " (" + p.AppProtocol + ")"
	}
	return out
}

func (o *offers) noConflict() model.Condition {
	return model.Condition{Type: conditionConflict, Reason: reasonNoConflicts, Unsure: o.unsure}
}

// conflict compares what is served with the oldest of it.
func (o *offers) conflict() model.Condition {
	var served []offer
	for _, e := range o.all {
		if e.row != nil {
			served = append(served, e)
		}
	}
	// As the host of what is exported orders them (exported.of).
	slices.SortFunc(served, func(a, b offer) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.row.Key(), b.row.Key()))
	})

	var found []dispute
	for i := 1; i < len(served); i++ {
		found = append(found, disputes(served[0], served[i])...)
	}
	if len(found) == 0 {
		return o.noConflict()
	}

	var reasons, problems []string
	for _, d := range found {
		if !slices.Contains(reasons, d.reason) {
			reasons = append(reasons, d.reason)
		}
		problems = append(problems, d.problem)
	}
	if more := len(problems) - maxDisputes; more > 0 {
		problems = append(problems[:maxDisputes], fmt.Sprintf("and %d more", more))
	}
	return model.Condition{
		Type: conditionConflict, Holds: true, Reason: strings.Join(reasons, ","),
		Message: fmt.Sprintf("the oldest export decides, that of cluster %q: ", served[0].Cluster) + strings.Join(problems, "; "),
	}
}
