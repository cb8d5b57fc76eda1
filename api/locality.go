package api

import (
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"k8s.io/apimachinery/pkg/util/validation"
)

// maxPriorityLabels bounds failoverPriority. n labels make n+1 priorities, and
// five times as many beside failover; Envoy takes 129
// (LocalityLbEndpoints.priority).
const maxPriorityLabels = 24

// Labels by which failoverPriority speaks of an endpoint's locality.
const (
	labelRegion  = "topology.kubernetes.io/region"
	labelZone    = "topology.kubernetes.io/zone"
	labelSubzone = "topology.istio.io/subzone"
)

// localityFields are the fields of a localityLbSetting.
var localityFields = fieldSet{
	"enabled": nil, "failoverPriority": nil,
	"distribute": {"from": nil, "to": nil},
	"failover":   {"from": nil, "to": nil},
}

// validateLocalitySetting holds a localityLbSetting to what Istio's validation
// asks of one, and to more: what of two settings would be passed over, or of
// which it is not clear what it means, is refused.
func validateLocalitySetting(p *problems, path string, s *networking.LocalityLoadBalancerSetting) {
	if s == nil {
		return
	}
	if len(s.Distribute) > 0 && len(s.Failover) > 0 {
		p.addf(path+".distribute", "cannot stand beside failover: it says already where every call goes; remove one of them")
	}
	if len(s.Distribute) > 0 && len(s.FailoverPriority) > 0 {
		p.addf(path+".distribute", "cannot stand beside failoverPriority: it says already where every call goes; remove one of them")
	}

	var from []string
	for i, d := range s.Distribute {
		at := indexed(path+".distribute", i)
		p.checkLocalityPattern(at+".from", d.From, from)
		from = append(from, d.From)
		validateShares(p, at+".to", d.To)
	}
	validateFailover(p, path+".failover", s.Failover)
	validateFailoverPriority(p, path+".failoverPriority", s)
}

// validateShares checks the percentages of one distribution.
func validateShares(p *problems, path string, to map[string]uint32) {
	var sum uint64
	var seen []string
	for _, pattern := range sortedMapKeys(to) {
		at := path + "[" + pattern + "]"
		p.checkLocalityPattern(at, pattern, seen)
		seen = append(seen, pattern)
		if n := to[pattern]; n < 1 || n > 100 {
			p.addf(at, "%d is no share; give 1 to 100 (percent)", n)
		}
		sum += uint64(to[pattern])
	}
	if sum != 100 {
		p.addf(path, "the shares come to %d; they must come to 100 (percent)", sum)
	}
}

// checkLocalityPattern notes a pattern that is none, or that shares a locality
// with one before it: which of the two counts there, nobody could tell.
func (p *problems) checkLocalityPattern(path, pattern string, before []string) {
	parts := strings.SplitN(pattern, "/", 3)
	for i, part := range parts {
		switch {
		case part == "":
			p.addf(path, "%q has an empty part; give region/zone/subzone, with * at the end for any", pattern)
			return
		case strings.Contains(part, "*") && (part != "*" || i < len(parts)-1):
			p.addf(path, "%q: a * stands for all that follows, so it must be the last part, and a whole one", pattern)
			return
		}
	}
	if i := slices.IndexFunc(before, func(o string) bool { return patternsOverlap(pattern, o) }); i >= 0 {
		p.addf(path, "%q and %q speak of the same places; keep one of them, or make them disjoint", pattern, before[i])
	}
}

// patternsOverlap tells whether a locality can match both patterns: they agree in
// every part that both of them give.
func patternsOverlap(a, b string) bool {
	partsA, partsB := strings.SplitN(a, "/", 3), strings.SplitN(b, "/", 3)
	for i := range min(len(partsA), len(partsB)) {
		if partsA[i] != partsB[i] && partsA[i] != "*" && partsB[i] != "*" {
			return false
		}
	}
	return true
}

func validateFailover(p *problems, path string, list []*networking.LocalityLoadBalancerSetting_Failover) {
	from := map[string]bool{}
	for i, f := range list {
		at := indexed(path, i)
		for _, side := range []struct{ name, region string }{{".from", f.From}, {".to", f.To}} {
			switch {
			case side.region == "":
				p.addf(at+side.name, "is empty; name a region")
			case strings.ContainsAny(side.region, "/*"):
				p.addf(at+side.name, "%q is no region; give a region alone, without zone and *", side.region)
			}
		}
		if f.From != "" && f.From == f.To {
			p.addf(at+".to", "%q is the region that fails; name another one", f.To)
		}
		if from[f.From] {
			p.addf(at+".from", "%q is listed twice; a region fails over to one other first, and to all others after it", f.From)
		}
		from[f.From] = true
	}
}

func validateFailoverPriority(p *problems, path string, s *networking.LocalityLoadBalancerSetting) {
	if n := len(s.FailoverPriority); n > maxPriorityLabels {
		p.addf(path, "lists %d labels; give %d at most", n, maxPriorityLabels)
	}
	seen := map[string]bool{}
	for i, label := range s.FailoverPriority {
		at := indexed(path, i)
		key, value, fixed := strings.Cut(label, "=")
		if problems := validation.IsQualifiedName(key); len(problems) > 0 {
			p.addf(at, "%q is no label key: %s", key, problems[0])
		}
		if problems := validation.IsValidLabelValue(value); fixed && len(problems) > 0 {
			p.addf(at, "%q is no label value: %s", value, problems[0])
		}
		if seen[key] {
			p.addf(at, "%q is listed twice", key)
		}
		seen[key] = true
		if placed := key == labelRegion || key == labelZone || key == labelSubzone; placed && len(s.Failover) > 0 {
			p.addf(at, "%q cannot stand beside failover, which speaks of regions itself; remove one of them", key)
		}
	}
}

// warnLocality notes a localityLbSetting that is switched off.
func warnLocality(w *problems, path string, s *networking.LocalityLoadBalancerSetting) {
	if s.GetEnabled() == nil || s.GetEnabled().Value {
		return
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{".distribute", len(s.Distribute) > 0},
		{".failover", len(s.Failover) > 0},
		{".failoverPriority", len(s.FailoverPriority) > 0},
	} {
		if f.set {
			w.addf(path+f.name, "changes nothing while enabled is false")
		}
	}
}
