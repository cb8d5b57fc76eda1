package api

import (
	networking "istio.io/api/networking/v1alpha3"
	"k8s.io/apimachinery/pkg/util/validation"
)

// validateDelegation looks at the name of the VirtualService to which a route is left.
func validateDelegation(p *problems, path string, d *networking.Delegate) {
	if len(validation.IsDNS1123Subdomain(d.Name)) > 0 {
		p.addf(path+".name", "%q is no VirtualService; give its name", d.Name)
	}
	if d.Namespace != "" && len(validation.IsDNS1123Label(d.Namespace)) > 0 {
		p.addf(path+".namespace", "%q is no namespace", d.Namespace)
	}
}

// validateDelegate looks at what only an object without hosts must not have: it routes what
// others leave to it
// (https://istio.io/latest/docs/reference/config/networking/virtual-service/#Delegate).
func validateDelegate(p *problems, vs *networking.VirtualService) {
	const why = "stands in an object without spec.hosts, which is a delegate: "
	if len(vs.Gateways) > 0 {
		p.addf("spec.gateways", why+"the gateways of the object that delegates to it count; remove it, or list hosts")
	}
	if len(vs.Tls) > 0 {
		p.addf("spec.tls", why+"http alone can be left to it; list hosts")
	}
	if len(vs.Tcp) > 0 {
		p.addf("spec.tcp", why+"http alone can be left to it; list hosts")
	}
	for i, r := range vs.Http {
		if r.GetDelegate() != nil {
			p.addf(indexed("spec.http", i)+".delegate", why+"it cannot delegate further; lead to a destination")
		}
	}
}
