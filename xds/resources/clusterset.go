package resources

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/model"
)

// What clusters export (ServiceExport) is one host for all of them,
// NAME.NAMESPACE.svc.clusterset.local: with the endpoints of the clusters that
// export it, and of no other, whatever the mesh configuration says of the Service's
// own name. So clusterLocal for "*" and a few exports come to: what is not exported
// stays at home.
//
// Source: https://github.com/kubernetes/enhancements/tree/master/keps/sig-multicluster/1645-multi-cluster-services-api

// clusterSetDomain ends the names of what is exported.
const clusterSetDomain = "svc.clusterset.local"

// clusterSetName is the name by which all clusters know a Service that some export.
func clusterSetName(namespace, name string) string {
	return name + "." + namespace + "." + clusterSetDomain
}

// exported is when each Service was exported, by model.ExportKey. It is immutable.
type exported struct{ since map[string]time.Time }

// exportedOf asks what is exported.
type exportedOf struct{ source *Source }

func (q exportedOf) build(r *reader, old *exported) *exported {
	now := &exported{since: map[string]time.Time{}}
	for e := range readAll(r, &q.source.store.Exports) {
		now.since[e.Key()] = e.Created
	}
	if old != nil && maps.EqualFunc(old.since, now.since, time.Time.Equal) {
		return old
	}
	return now
}

// sinceOf tells whether a Service is exported, and since when. One that is but
// another name for something (ExternalName) cannot be.
func (e *exported) sinceOf(svc *model.Service) (time.Time, bool) {
	if len(e.since) == 0 || !inMesh(svc) {
		return time.Time{}, false
	}
	at, ok := e.since[model.ExportKey(svc.Cluster, svc.Namespace, svc.Name)]
	return at, ok
}

// of are those of a host's rows that are exported. The one whose export is the
// oldest comes first: where clusters say different things, it decides (KEP-1645,
// Constraints and Conflict Resolution).
func (e *exported) of(rows []*model.Service) []*model.Service {
	var out []*model.Service
	for _, row := range rows {
		if _, ok := e.sinceOf(row); ok {
			out = append(out, row)
		}
	}
	slices.SortFunc(out, func(a, b *model.Service) int {
		sinceA, _ := e.sinceOf(a)
		sinceB, _ := e.sinceOf(b)
		return cmp.Or(sinceA.Compare(sinceB), cmp.Compare(a.Key(), b.Key()))
	})
	return out
}

// clusterSetHost makes the host of what is exported of a name.
func (q hostsOf) clusterSetHost(offered []*model.Service, given *allocation, members *membership) *host {
	name := clusterSetName(offered[0].Namespace, offered[0].Name)
	return newHost(q.source, name, vantage{
		cluster: q.cluster, allocated: given.byHost[name],
		apart: members.apart(q.cluster, offered), clusterSet: true,
	}, offered)
}

// addClusterSet adds the hosts of what is exported. They take the place of
// ServiceEntries of their name, as every Service does.
func (all *hosts) addClusterSet(added []*host) {
	if len(added) == 0 {
		return
	}
	for _, h := range added {
		all.byName[h.name] = h
	}
	all.list = slices.DeleteFunc(all.list, func(h *host) bool { return all.byName[h.name] != h })
	all.list = append(all.list, added...)
	slices.SortFunc(all.list, func(a, b *host) int { return strings.Compare(a.name, b.name) })
}

// podName is the name of a pod of a headless service below the host's: of what is
// exported with the cluster between them, as pods of two clusters may have one name
// (KEP-1645, DNS). It is empty where the cluster's name is none for DNS.
func (h *host) podName(c model.ClusterID, pod string) string {
	if !h.vantage.clusterSet {
		return pod + "." + h.name
	}
	label := strings.ToLower(string(c))
	if !isDNSLabel(label) {
		return ""
	}
	return pod + "." + label + "." + h.name
}

// isDNSLabel tells whether text in lower case is a label of a host name (RFC 1123,
// section 2.1).
func isDNSLabel(text string) bool {
	if text == "" || len(text) > 63 || text[0] == '-' || text[len(text)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(text, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-'
	})
}
