package resources

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/isthmus-mesh/isthmus/model"
)

// dispute is something that two clusters say differently of a Service that both
// export.
type dispute struct{ reason, problem string }

// disputes are what cluster b says otherwise than a.
func disputes(a, b offer) []dispute {
	var out []dispute
	add := func(reason, format string, args ...any) {
		out = append(out, dispute{reason, fmt.Sprintf(format, args...)})
	}
	inEach := func(what func(offer) string) string {
		return fmt.Sprintf("%s in cluster %q and %s in cluster %q", what(a), a.Cluster, what(b), b.Cluster)
	}

	if a.Offer.Headless != b.Offer.Headless {
		add(reasonType, "it is %s", inEach(func(o offer) string {
			if o.Offer.Headless {
				return "headless"
			}
			return "a service with an address"
		}))
	}
	for _, problem := range portDisputes(a, b) {
		add(reasonPort, "%s", problem)
	}

	switch affinity, other := a.Offer.Affinity, b.Offer.Affinity; {
	case affinity.ByClientIP != other.ByClientIP:
		add(reasonAffinity, "its sessionAffinity is %s", inEach(func(o offer) string {
			if o.Offer.Affinity.ByClientIP {
				return "ClientIP"
			}
			return "None"
		}))
	case affinity != other:
		add(reasonAffinityConfig, "its sessionAffinity lasts %s", inEach(func(o offer) string {
			return fmt.Sprintf("%d s", o.Offer.Affinity.Timeout)
		}))
	}

	if a.row.NodeLocal != b.row.NodeLocal {
		add(reasonInternalPolicy, "its internalTrafficPolicy is %s", inEach(func(o offer) string {
			if o.row.NodeLocal {
				return "Local"
			}
			return "Cluster"
		}))
	}
	if a.row.Distribution != b.row.Distribution {
		add(reasonTrafficDistribution, "its trafficDistribution is %s", inEach(func(o offer) string {
			switch o.row.Distribution {
			case model.PreferZone:
				return "PreferSameZone"
			case model.PreferNode:
				return "PreferSameNode"
			}
			return "not given"
		}))
	}
	return out
}

// portDisputes compares ports by name, then by number and transport, which is how
// they become one list (KEP-1645, Service Port).
func portDisputes(a, b offer) []string {
	var out []string
	met := map[model.ServicePort]bool{} // of b
	for _, p := range a.Offer.Ports {
		other, same := match(b.Offer.Ports, p)
		switch {
		case other == nil:
			out = append(out, fmt.Sprintf("its port %s is in cluster %q alone", describe(p), a.Cluster))
			continue
		case !same:
			out = append(out, fmt.Sprintf("its port %s in cluster %q is %s in cluster %q", describe(p), a.Cluster, describe(*other), b.Cluster))
		}
		met[*other] = true
	}

	for _, p := range b.Offer.Ports {
		if !met[p] {
			out = append(out, fmt.Sprintf("its port %s is in cluster %q alone", describe(p), b.Cluster))
		}
	}
	return out
}

// match finds the port that is another's counterpart; nil when there is none.
func match(ports []model.ServicePort, p model.ServicePort) (found *model.ServicePort, same bool) {
	i := slices.IndexFunc(ports, func(o model.ServicePort) bool { return o.Name == p.Name })
	if i < 0 {
		i = slices.IndexFunc(ports, func(o model.ServicePort) bool { return o.Number == p.Number && o.Transport == p.Transport })
	}
	if i < 0 {
		return nil, false
	}
	return &ports[i], ports[i] == p
}

// describe names a port with its number.
func describe(p model.ServicePort) string {
	if p.Name == "" {
		return spell(p)
	}
	return fmt.Sprintf("%q, %s,", p.Name, spell(p))
}

// union are the ports of offers as one list: where two have a name or a number in
// common, the first counts.
func union(all []*model.Offer) []model.ServicePort {
	var out []model.ServicePort
	for _, o := range all {
		for _, p := range o.Ports {
			if found, _ := match(out, p); found == nil {
				out = append(out, p)
			}
		}
	}
	slices.SortFunc(out, func(a, b model.ServicePort) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Transport, b.Transport))
	})
	return out
}
