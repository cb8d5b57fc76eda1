package joincheck

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// State is how a check came out.
type State string

// The states. A Problem keeps the clusters from working as one mesh.
const (
	OK      State = "ok"
	Warning State = "warning"
	Problem State = "problem"
)

// Finding is what one check found.
type Finding struct {
	// Check names the check: "root certificates".
	Check string `json:"check"`
	State State  `json:"state"`
	// Clusters are the contexts that it is about.
	Clusters []string `json:"clusters,omitempty"`
	Text     string   `json:"text"`
	// Mend is what to do.
	Mend string `json:"mend,omitempty"`
}

// Clocks may differ by warnSkew without a word, and by mostSkew at most:
// certificates are dated back by no more than that.
const (
	warnSkew = 10 * time.Second
	mostSkew = 2 * time.Minute
)

// judge collects findings.
type judge struct {
	facts []Facts // of the clusters that were reached
	out   []Finding
}

// Judge holds clusters against each other. Every check leaves a finding, if only
// that all is well.
func Judge(all []Facts) []Finding {
	j := &judge{}
	for _, f := range all {
		if f.Unreachable != "" {
			j.say("API server", Problem, f.Unreachable, "see to the context and to the network on the way there", f)
			continue
		}
		j.facts = append(j.facts, f)
		for _, what := range f.Unseen {
			j.say("access", Warning, what, "use a context whose user may read it", f)
		}
	}
	if len(j.out) == 0 && len(j.facts) > 1 {
		j.say("API servers", OK, "all answer, asked from here", "", j.facts...)
	}
	j.check("cluster names", "all differ", j.names)
	j.check("root certificates", "all have the same", j.roots)
	j.check("trust domains", "all have the same", j.trustDomains)
	j.check("pod ranges", "none overlap on one network", j.ranges)
	j.check("mesh networks", "all clusters that they name are known", j.registries)
	j.check("gateways", "every network that needs one has one with an address", j.gateways)
	j.check("remote secrets", "every control plane reads the other clusters", j.secrets)
	j.check("clocks", "all agree", j.clocks)
	j.check("versions", "all control planes have the same", j.versions)
	return j.out
}

func (j *judge) say(check string, state State, text, mend string, about ...Facts) {
	f := Finding{Check: check, State: state, Text: text, Mend: mend}
	for _, a := range about {
		f.Clusters = append(f.Clusters, a.Context)
	}
	j.out = append(j.out, f)
}

// check runs one check, and says that all is well when it said nothing.
func (j *judge) check(name, well string, run func()) {
	before := len(j.out)
	run()
	if len(j.out) == before && len(j.facts) > 1 {
		j.say(name, OK, well, "", j.facts...)
	}
}

// pairs calls do for every two clusters.
func (j *judge) pairs(do func(a, b Facts)) {
	for i, a := range j.facts {
		for _, b := range j.facts[i+1:] {
			do(a, b)
		}
	}
}

func (j *judge) names() {
	j.pairs(func(a, b Facts) {
		if a.Name == b.Name && a.Name != "" {
			j.say("cluster names", Problem, fmt.Sprintf("both are called %q", a.Name),
				"install one of them with another values.global.multiCluster.clusterName", a, b)
		}
	})
	for _, f := range j.facts {
		if f.Name == "" {
			j.say("cluster names", Warning, "no istiod is installed that says what the cluster is called", "install it with values.global.multiCluster.clusterName", f)
		}
	}
}

func (j *judge) roots() {
	const check = "root certificates"
	for _, f := range j.facts {
		if len(f.Roots) == 0 {
			j.say(check, Warning, "there is neither a Secret cacerts nor a ConfigMap istio-ca-root-cert",
				"make an intermediate certificate of the mesh's root before istiod is installed: isthmus x ca create-intermediate --cluster NAME, then kubectl create secret generic cacerts", f)
		}
	}
	j.pairs(func(a, b Facts) {
		if len(a.Roots) == 0 || len(b.Roots) == 0 || slices.Equal(a.Roots, b.Roots) {
			return
		}
		shared := slices.ContainsFunc(a.Roots, func(r string) bool { return slices.Contains(b.Roots, r) })
		if shared {
			j.say(check, Warning, "they share some roots and not all, as while a root is replaced", "give both the same root-cert.pem in the Secret cacerts", a, b)
			return
		}
		j.say(check, Problem, fmt.Sprintf("they have no root in common (%s %s, %s %s): no proxy of one believes one of the other", a.Source, short(a.Roots[0]), b.Source, short(b.Roots[0])),
			"make intermediate certificates of one root for both (isthmus x ca create-intermediate --cluster NAME), put them into the Secrets cacerts, and restart istiod", a, b)
	})
}

// short is the beginning of a fingerprint.
func short(fingerprint string) string { return fingerprint[:min(len(fingerprint), 12)] }

func (j *judge) trustDomains() {
	j.pairs(func(a, b Facts) {
		if a.TrustDomain != b.TrustDomain && a.TrustDomain != "" && b.TrustDomain != "" {
			j.say("trust domains", Problem, fmt.Sprintf("%q and %q: identities of one are strangers in the other", a.TrustDomain, b.TrustDomain),
				"install both with the same meshConfig.trustDomain", a, b)
		}
	})
}

func (j *judge) ranges() {
	j.pairs(func(a, b Facts) {
		if a.Network != b.Network {
			return
		}
		for _, p := range a.Pods {
			if at := slices.IndexFunc(b.Pods, func(q netip.Prefix) bool { return p.Overlaps(q) }); at >= 0 {
				network := "no network is named, so that they count as one"
				if a.Network != "" {
					network = "both are in network " + a.Network
				}
				j.say("pod ranges", Problem, fmt.Sprintf("pods of both have addresses of %s and %s, and %s", p, b.Pods[at], network),
					"give them networks of their own (values.global.network, and kubectl label namespace istio-system topology.istio.io/network=NETWORK) with an east-west gateway each, or other pod ranges", a, b)
				return
			}
		}
	})
}

// registries are the clusters that meshNetworks names: nothing is in a network by
// the name of a cluster that nobody reads.
func (j *judge) registries() {
	for _, f := range j.facts {
		for _, network := range slices.Sorted(maps.Keys(f.Networks.GetNetworks())) {
			for _, ep := range f.Networks.Networks[network].GetEndpoints() {
				name := ep.GetFromRegistry()
				known := name == "" || slices.ContainsFunc(j.facts, func(o Facts) bool { return o.Name == name }) ||
					slices.ContainsFunc(f.Secrets, func(s Secret) bool { return s.Cluster == name })
				if !known {
					j.say("mesh networks", Warning, fmt.Sprintf("network %s has the endpoints of cluster %s, and no cluster here has that name, nor is there a Secret for one", network, name),
						"correct values.global.meshNetworks, or give the control plane the Secret of that cluster (isthmus create-remote-secret --name="+name+")", f)
				}
			}
		}
	}
}

func (j *judge) gateways() {
	const check = "gateways"
	networks := map[string]bool{}
	for _, f := range j.facts {
		networks[f.Network] = true
	}
	for _, f := range j.facts {
		for _, g := range f.Gateways {
			for _, at := range g.Silent {
				j.say(check, Warning, fmt.Sprintf("%s of network %s takes no connection at %s from here", g.Service, g.Network, at), "see whether the other clusters reach it", f)
			}
		}
		if len(networks) < 2 || f.Network == "" {
			continue
		}

		own := slices.DeleteFunc(slices.Clone(f.Gateways), func(g Gateway) bool { return g.Network != f.Network })
		switch {
		case len(own) == 0 && len(f.Networks.GetNetworks()[f.Network].GetGateways()) == 0 && !j.namedElsewhere(f.Network):
			j.say(check, Problem, fmt.Sprintf("network %s has no gateway: nothing of it is reached from other networks", f.Network),
				fmt.Sprintf("samples/multicluster/gen-eastwest-gateway.sh --network %s | isthmus install -y -f -, then apply samples/multicluster/expose-services.yaml", f.Network), f)
		case len(own) > 0 && !slices.ContainsFunc(own, func(g Gateway) bool { return len(g.Addresses) > 0 }):
			j.say(check, Problem, fmt.Sprintf("the gateways of network %s have no address outside of the cluster yet: %s", f.Network, services(own)),
				"see why its load balancer gives none; where there are no load balancers, set externalIPs, or make it a NodePort Service with the annotation traffic.istio.io/nodeSelector: '{}'", f)
		}
	}
}

// namedElsewhere tells whether another cluster's meshNetworks has gateways of a
// network.
func (j *judge) namedElsewhere(network string) bool {
	return slices.ContainsFunc(j.facts, func(f Facts) bool { return len(f.Networks.GetNetworks()[network].GetGateways()) > 0 })
}

func services(gateways []Gateway) string {
	var names []string
	for _, g := range gateways {
		names = append(names, g.Service)
	}
	return strings.Join(names, ", ")
}

func (j *judge) secrets() {
	const check = "remote secrets"
	for _, reader := range j.facts {
		if reader.Steered || reader.Istiod == "" {
			continue // it reads its own cluster alone, or is not there yet
		}
		for _, read := range j.facts {
			if read.Context == reader.Context || read.Name == "" {
				continue
			}
			at := slices.IndexFunc(reader.Secrets, func(s Secret) bool { return s.Cluster == read.Name })
			if at < 0 {
				j.say(check, Problem, fmt.Sprintf("the control plane of %s does not read %s: it has no Secret for the cluster %s", reader.Context, read.Context, read.Name),
					fmt.Sprintf("isthmus create-remote-secret --context=%s --name=%s | kubectl apply -f - --context=%s", read.Context, read.Name, reader.Context), reader, read)
				continue
			}
			j.secret(reader, reader.Secrets[at])
		}
	}
}

// secret judges one Secret: what istiod says of it counts for more than what is
// seen from here.
func (j *judge) secret(reader Facts, s Secret) {
	mend := fmt.Sprintf("make the Secret anew, with an address that the cluster of %s reaches: isthmus create-remote-secret --name=%s --server=URL", reader.Context, s.Cluster)
	switch {
	case s.InsideTrouble:
		j.say("remote secrets", Problem, fmt.Sprintf("istiod says of cluster %s, from inside: %s", s.Cluster, s.Inside), mend, reader)
	case s.Trouble != "" && s.Inside != "":
		j.say("remote secrets", OK, fmt.Sprintf("Secret %s does not do from here (%s), and does from inside: %s", s.Name, s.Trouble, s.Inside), "", reader)
	case s.Trouble != "":
		j.say("remote secrets", Warning, fmt.Sprintf("Secret %s, tried from here: %s", s.Name, s.Trouble), mend, reader)
	}
}

func (j *judge) clocks() {
	j.pairs(func(a, b Facts) {
		skew := (a.Skew - b.Skew).Abs()
		state := Warning
		if skew > mostSkew {
			state = Problem
		}
		if skew > warnSkew {
			j.say("clocks", state, fmt.Sprintf("they differ by %s: certificates and tokens are not yet valid, or not any more", skew.Round(time.Second)), "set the clocks by NTP", a, b)
		}
	})
}

func (j *judge) versions() {
	j.pairs(func(a, b Facts) {
		if a.Istiod != b.Istiod && a.Istiod != "" && b.Istiod != "" {
			j.say("versions", Warning, fmt.Sprintf("the control planes are of versions %s and %s", a.Istiod, b.Istiod), "upgrade the older one", a, b)
		}
	})
}
