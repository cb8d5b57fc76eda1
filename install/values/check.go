package values

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/operator"
)

// check refuses what no single key shows to be wrong.
func (c *Config) check() error {
	if !isLabel(c.Namespace) {
		return fmt.Errorf("namespace: %q is not a namespace's name", c.Namespace)
	}
	if !isLabel(c.Revision) {
		return fmt.Errorf("revision: %q is not a DNS label (lower-case letters, digits and dashes)", c.Revision)
	}
	if err := c.checkNamespaces(); err != nil {
		return err
	}
	if err := c.checkDomains(); err != nil {
		return err
	}
	if err := c.checkClusters(); err != nil {
		return err
	}

	seen := map[string]bool{}
	for _, g := range c.gateways() {
		if !isLabel(g.Name) {
			return fmt.Errorf("gateway name: %q is not a DNS label", g.Name)
		}
		if seen[g.Namespace+"/"+g.Name] {
			return fmt.Errorf("gateway %s: there is another one of this name", g.Name)
		}
		seen[g.Namespace+"/"+g.Name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(c.Spec.Values.Gateways)) {
		if !c.hasGateway(name) {
			return fmt.Errorf("values.gateways.%s: no gateway of this name is in components.ingressGateways or components.egressGateways", name)
		}
		if own := c.Spec.Values.Gateways[name].Name; own != "" && own != name {
			return fmt.Errorf("values.gateways.%s.name: %q: a gateway has the name by which components.ingressGateways or components.egressGateways lists it; list one of this name there", name, own)
		}
	}
	return nil
}

// isLabel tells whether a name is a DNS label, as names of namespaces and Services
// are.
func isLabel(name string) bool { return len(validation.IsDNS1123Label(name)) == 0 }

// checkNamespaces refuses two namespaces for one control plane.
func (c *Config) checkNamespaces() error {
	if ns := c.Spec.Values.Global.IstioNamespace; ns != "" && ns != c.Namespace {
		return fmt.Errorf("values.global.istioNamespace: %q, and namespace is %q: a control plane has one namespace; set one of the two, or both alike", ns, c.Namespace)
	}
	for _, part := range []struct{ name, namespace string }{
		{"base", c.Spec.Components.Base.Namespace},
		{"pilot", c.Spec.Components.Pilot.Namespace},
	} {
		if part.namespace != "" && part.namespace != c.Namespace {
			return fmt.Errorf("components.%s.namespace: %q, and the control plane's is %q: its parts are in one namespace, spec.namespace; gateways may have others", part.name, part.namespace, c.Namespace)
		}
	}
	return nil
}

// checkDomains refuses what is no DNS domain: it would become part of names.
func (c *Config) checkDomains() error {
	global := c.Spec.Values.Global
	for _, set := range []struct{ key, domain string }{
		{"values.global.proxy.clusterDomain", global.Proxy.ClusterDomain},
		{"values.global.multiCluster.globalDomainSuffix", global.MultiCluster.GlobalDomainSuffix},
	} {
		if errs := validation.IsDNS1123Subdomain(set.domain); set.domain != "" && len(errs) > 0 {
			return fmt.Errorf("%s: %q is not a DNS domain: %s", set.key, set.domain, errs[0])
		}
	}
	if g := global.MultiCluster.GlobalDomainSuffix; g != "" && g == cmp.Or(global.Proxy.ClusterDomain, api.DefaultClusterDomain) {
		return fmt.Errorf("values.global.multiCluster.globalDomainSuffix: %q is the cluster's own domain; name another for the services of other clusters", g)
	}
	return nil
}

func (c *Config) gateways() []operator.Gateway {
	return slices.Concat(c.Spec.Components.IngressGateways, c.Spec.Components.EgressGateways)
}

func (c *Config) hasGateway(name string) bool {
	return slices.ContainsFunc(c.gateways(), func(g operator.Gateway) bool { return g.Name == name })
}
