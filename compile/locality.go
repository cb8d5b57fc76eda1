package compile

import (
	"cmp"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/model"
)

// nodeLocality is where a node says that it is. Clusters that have been there for
// long have labels of Kubernetes before 1.17, which no longer sets them.
func nodeLocality(labels map[string]string) model.Locality {
	region := cmp.Or(labels[corev1.LabelTopologyRegion], labels[corev1.LabelFailureDomainBetaRegion])
	zone := cmp.Or(labels[corev1.LabelTopologyZone], labels[corev1.LabelFailureDomainBetaZone])
	return model.MakeLocality(region, zone, labels[labelSubzone])
}

// labelledLocality is where the labels of a workload put it, whatever its node
// says; it is empty when they do not. The value of a label cannot hold a slash,
// so dots stand for it: region.zone.subzone.
func labelledLocality(labels map[string]string) model.Locality {
	text := cmp.Or(labels[labelLocality], labels[labelLocalityBefore])
	if !strings.Contains(text, "/") {
		text = strings.ReplaceAll(text, ".", "/")
	}
	return model.ParseLocality(text)
}

// localitySetting reads a valid localityLbSetting; nil when there is none.
func localitySetting(s *networking.LocalityLoadBalancerSetting) *model.LocalitySetting {
	if s == nil {
		return nil
	}
	if s.Enabled != nil && !s.Enabled.Value {
		return &model.LocalitySetting{Off: true}
	}

	out := &model.LocalitySetting{}
	for _, d := range s.Distribute {
		one := model.Distribute{From: model.LocalityPattern(d.From)}
		for to, percent := range d.To {
			one.To = append(one.To, model.LocalityShare{To: model.LocalityPattern(to), Percent: percent})
		}
		slices.SortFunc(one.To, func(a, b model.LocalityShare) int { return cmp.Compare(a.To, b.To) })
		out.Distribute = append(out.Distribute, one)
	}
	for _, f := range s.Failover {
		if out.Failover == nil {
			out.Failover = map[string]string{}
		}
		out.Failover[f.From] = f.To
	}
	for _, label := range s.FailoverPriority {
		key, value, fixed := strings.Cut(label, "=")
		out.Priority = append(out.Priority, model.PriorityLabel{Key: key, Fixed: fixed, Value: value})
	}
	return out
}
