package resources

import (
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/model"
)

// Labels by which priorities speak of where a workload is: Istio's, and the
// well-known ones of nodes. The latter stand here, and are not those of k8s.io/api,
// because nothing else of Kubernetes is needed to make resources: its types are
// 5 MB in whatever links them.
// Source: https://kubernetes.io/docs/reference/labels-annotations-taints/
const (
	labelCluster  = "topology.istio.io/cluster"
	labelSubzone  = "topology.istio.io/subzone"
	labelRegion   = "topology.kubernetes.io/region"
	labelZone     = "topology.kubernetes.io/zone"
	labelHostname = "kubernetes.io/hostname"
)

// needOf is what of a client's place is compared by a label.
func needOf(key string) needs {
	switch key {
	case labelNetwork, labelCluster:
		return 0 // every place has them
	case labelRegion, labelZone, labelSubzone:
		return needsLocality
	case labelHostname:
		return needsNode
	}
	return needsLabels
}

// unlike is how many labels are left from the first on in which an endpoint is not
// what it is compared with: 0 when it agrees in all of them.
func (b *assignmentBuilder) unlike(labels []model.PriorityLabel, row *model.Service, ep *model.Endpoint) int {
	for i, l := range labels {
		agrees := b.valueAt(l, row, ep) == b.wanted(l)
		if l.Key == labelHostname && !l.Fixed {
			agrees = b.onNode(clusterOf(row, ep), ep)
		}
		if !agrees {
			return len(labels) - i
		}
	}
	return 0
}

// wanted is the value that endpoints are compared with in a label. A label that the
// client does not have is the same as an empty one.
func (b *assignmentBuilder) wanted(l model.PriorityLabel) string {
	if l.Fixed {
		return l.Value
	}
	region, zone, subzone := b.from.locality.Parts()
	switch l.Key {
	case labelNetwork:
		return b.from.network
	case labelCluster:
		return string(b.from.cluster)
	case labelRegion:
		return region
	case labelZone:
		return zone
	case labelSubzone:
		return subzone
	}
	return clientLabel(b.from.labels, l.Key)
}

// valueAt is an endpoint's value of a label.
func (b *assignmentBuilder) valueAt(l model.PriorityLabel, row *model.Service, ep *model.Endpoint) string {
	region, zone, subzone := ep.Locality.Parts()
	switch l.Key {
	case labelNetwork:
		return b.networkOf(row, ep)
	case labelCluster:
		return string(clusterOf(row, ep))
	case labelRegion:
		return region
	case labelZone:
		return zone
	case labelSubzone:
		return subzone
	case labelHostname:
		return ep.Node
	}
	return ep.Labels[l.Key]
}

// clientLabels are those labels of a client in which some setting compares it with
// endpoints, as one text: proxies that agree in them stand in one place. Neither
// keys nor values of labels hold "=" or ",".
func clientLabels(keys []string, labels map[string]string) string {
	var out []string
	for _, k := range keys {
		if v := labels[k]; v != "" {
			out = append(out, k+"="+v)
		}
	}
	return strings.Join(out, ",")
}

// clientLabel is the value of a label in a text of clientLabels.
func clientLabel(text, key string) string {
	for pair := range strings.SplitSeq(text, ",") {
		if k, v, _ := strings.Cut(pair, "="); k == key {
			return v
		}
	}
	return ""
}

// compared is in what of theirs clients are compared with endpoints, by any
// setting of the mesh. It is immutable.
type compared struct {
	labels []string // sorted
	node   bool
}

// comparedOf asks for it.
type comparedOf struct{ source *Source }

func (q comparedOf) build(r *reader, old *compared) *compared {
	now := &compared{}
	now.add(q.source.mesh.get(r).Locality)
	for s := range q.source.rules.get(r).settings {
		now.add(s)
	}
	slices.Sort(now.labels)
	now.labels = slices.Compact(now.labels)
	if old != nil && old.node == now.node && slices.Equal(old.labels, now.labels) {
		return old
	}
	return now
}

// text tells two of them apart.
func (c *compared) text() string {
	labels := slices.Sorted(slices.Values(c.labels))
	if c.node {
		labels = append(labels, labelHostname)
	}
	return strings.Join(labels, ",")
}

// add adds what a setting compares.
func (c *compared) add(s *model.LocalitySetting) {
	for _, l := range (order{setting: s}).labels() {
		switch {
		case l.Fixed:
		case needOf(l.Key) == needsNode:
			c.node = true
		case needOf(l.Key) == needsLabels:
			c.labels = append(c.labels, l.Key)
		}
	}
}
