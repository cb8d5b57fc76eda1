package api

import (
	"math"
	"slices"
	"strings"
	"time"

	networking "istio.io/api/networking/v1alpha3"

	"k8s.io/apimachinery/pkg/util/validation"
)

// GatewayMesh stands among the gateways of a VirtualService for all sidecars.
const GatewayMesh = "mesh"

var virtualServiceFields = fieldSet{
	"hosts":    nil,
	"exportTo": nil,
	"gateways": nil,
	"http": {
		"name":           nil,
		"match":          httpMatchFields,
		"route":          {"destination": destinationFields, "weight": nil, "headers": nil},
		"redirect":       {"uri": nil, "authority": nil, "port": nil, "derivePort": nil, "scheme": nil, "redirectCode": nil},
		"directResponse": nil,
		"rewrite":        nil,
		"timeout":        nil,
		"retries":        nil,
		"headers":        nil,
		"fault":          faultFields,
		"corsPolicy":     corsFields,
		"delegate":       {"name": nil, "namespace": nil},

		"mirror":           destinationFields,
		"mirrors":          mirrorFields,
		"mirrorPercentage": percentFields,
		"mirrorPercent":    nil,
	},
	"tls": {"match": connectionMatchFields.and("sniHosts", nil), "route": connectionDestinationFields},
	"tcp": {"match": connectionMatchFields, "route": connectionDestinationFields},
}

func validateVirtualService(p *problems, vs *networking.VirtualService) {
	if len(vs.Hosts) == 0 {
		validateDelegate(p, vs)
	}
	seen := map[string]bool{}
	for i, h := range vs.Hosts {
		path := indexed("spec.hosts", i)
		p.checkHost(path, h, true)
		switch name := PlainHost(h); {
		case name == "*" && routesSidecars(vs):
			p.addf(path, "\"*\" would take the requests to every host of the mesh; name a host, or a suffix such as *.example.com, or a Gateway alone under spec.gateways")
		case seen[name]:
			p.addf(path, "%q is listed twice", h)
		default:
			seen[name] = true
		}
	}

	p.checkExportTo("spec.exportTo", vs.ExportTo, false)
	p.checkGateways("spec.gateways", vs.Gateways)
	if len(vs.Http)+len(vs.Tls)+len(vs.Tcp) == 0 {
		p.addf("spec", "has no route; give one under http, tls or tcp")
	}
	for i, r := range vs.Http {
		at := indexed("spec.http", i)
		validateHTTPRoute(p, at, r)
		if len(vs.Hosts) == 0 {
			continue // the gateways are those of who delegates to it
		}
		for j, m := range r.Match {
			p.checkMatchedGateways(indexed(at+".match", j)+".gateways", m.GetGateways(), vs.Gateways)
		}
	}
	for i, r := range vs.Tls {
		validateTLSRoute(p, indexed("spec.tls", i), r, vs)
	}
	for i, r := range vs.Tcp {
		validateTCPRoute(p, indexed("spec.tcp", i), r, vs)
	}
}

// routesSidecars tells whether a VirtualService routes the requests of sidecars.
func routesSidecars(vs *networking.VirtualService) bool {
	return len(vs.Gateways) == 0 || slices.Contains(vs.Gateways, GatewayMesh)
}

// checkGateways notes what is no name of a Gateway.
func (p *problems) checkGateways(path string, gateways []string) {
	for i, g := range gateways {
		at := indexed(path, i)
		namespace, name, qualified := strings.Cut(g, "/")
		if !qualified {
			name = g
		}
		if qualified && len(validation.IsDNS1123Label(namespace)) > 0 || len(validation.IsDNS1123Subdomain(name)) > 0 {
			p.addf(at, "%q is no Gateway; give NAME or NAMESPACE/NAME, or %q for the sidecars", g, GatewayMesh)
		}
		if slices.Contains(gateways[:i], g) {
			p.addf(at, "%q is listed twice", g)
		}
	}
}

// sameGateway tells whether two names may be those of one Gateway: without a namespace
// it is one of the object's own.
func sameGateway(a, b string) bool {
	namespaceA, nameA, fullA := strings.Cut(a, "/")
	namespaceB, nameB, fullB := strings.Cut(b, "/")
	if !fullA {
		nameA = namespaceA
	}
	if !fullB {
		nameB = namespaceB
	}
	return nameA == nameB && (!fullA || !fullB || namespaceA == namespaceB)
}

// checkMatchedGateways notes gateways of a condition whose requests the object does not
// get: it could never be satisfied.
func (p *problems) checkMatchedGateways(path string, matched, all []string) {
	if len(all) == 0 {
		all = []string{GatewayMesh}
	}
	for i, g := range matched {
		if !slices.ContainsFunc(all, func(a string) bool { return sameGateway(a, g) }) {
			p.addf(indexed(path, i), "%q is not among spec.gateways (%s), so that no request would satisfy the condition; add it there, too", g, strings.Join(all, ", "))
		}
	}
}

func validateHTTPRoute(p *problems, path string, r *networking.HTTPRoute) {
	for i, m := range r.Match {
		if m == nil {
			p.addf(indexed(path+".match", i), "is empty; remove it, or say what it matches")
			continue
		}
		validateHTTPMatch(p, indexed(path+".match", i), m)
	}

	validateWhere(p, path, r)
	validateRewrite(p, path, r)
	validateFault(p, path, r)
	validateCORS(p, path, r)
	validateMirrors(p, path, r)
	validateHeaders(p, path+".headers", r.Headers, true)
	p.checkDuration(path+".timeout", r.Timeout, time.Millisecond)
	validateRetries(p, path+".retries", r.Retries)
}

// validateWhere looks at where a route leads: to destinations, to another address
// that the client is told, or nowhere.
func validateWhere(p *problems, path string, r *networking.HTTPRoute) {
	var given []string
	if len(r.Route) > 0 {
		given = append(given, "route")
	}
	if r.Redirect != nil {
		given = append(given, "redirect")
	}
	if r.DirectResponse != nil {
		given = append(given, "directResponse")
	}
	if r.Delegate != nil {
		given = append(given, "delegate")
		validateDelegation(p, path+".delegate", r.Delegate)
	}

	switch len(given) {
	case 0:
		p.addf(path, "leads nowhere; give route, redirect, directResponse or delegate")
	case 1:
	default:
		p.addf(path, "has %s, of which only one can be; remove the others", strings.Join(given, " and "))
	}

	validateDestinations(p, path+".route", r.Route)
	validateRedirect(p, path+".redirect", r.Redirect)
	if d := r.DirectResponse; d != nil {
		if d.Status < 200 || d.Status > 599 {
			p.addf(path+".directResponse.status", "%d is no status to answer with; set 200 to 599", d.Status)
		}
		if len(d.Body.GetBytes())+len(d.Body.GetString_()) > maxDirectBody {
			p.addf(path+".directResponse.body", "has more than %d bytes, which every proxy would hold", maxDirectBody)
		}
	}
}

// maxDirectBody bounds a body that all proxies keep, as Istio does.
const maxDirectBody = 1 << 20

func validateDestinations(p *problems, path string, list []*networking.HTTPRouteDestination) {
	for i, d := range list {
		validateHeaders(p, indexed(path, i)+".headers", d.GetHeaders(), len(list) == 1)
	}
	validateWeighted(p, path, list)
}

// weighted is a destination of a route with its weight.
type weighted interface {
	GetDestination() *networking.Destination
	GetWeight() int32
}

func validateWeighted[W weighted](p *problems, path string, list []W) {
	total := int64(0)
	for i, d := range list {
		at := indexed(path, i)
		if d.GetDestination() == nil {
			p.addf(at+".destination", "is missing; name a host")
			continue
		}
		validateDestination(p, at+".destination", d.GetDestination())
		if d.GetWeight() < 0 {
			p.addf(at+".weight", "%d is no weight; set 0 or more", d.GetWeight())
		}
		total += int64(d.GetWeight())
	}
	switch {
	case len(list) > 1 && total == 0:
		p.addf(path, "has no weight above 0, so that nothing would have a destination; set weight")
	case len(list) > 1 && total > math.MaxUint32:
		// Proxies refuse it, and with it the routes of all hosts (WeightedCluster).
		p.addf(path, "has weights of %d together; set them so that they are %d at most", total, uint32(math.MaxUint32))
	}
}

func validateDestination(p *problems, path string, d *networking.Destination) {
	switch PlainHost(d.Host) {
	case "*":
		p.addf(path+".host", "\"*\" is no destination; name a host")
	default:
		p.checkHost(path+".host", d.Host, true)
	}
	p.checkSubsetName(path+".subset", d.Subset)
	if d.Port != nil {
		p.checkPort(path+".port.number", d.Port.Number)
	}
}

func validateRetries(p *problems, path string, r *networking.HTTPRetry) {
	if r == nil {
		return
	}
	p.checkCount(path+".attempts", r.Attempts)
	p.checkDuration(path+".perTryTimeout", r.PerTryTimeout, time.Millisecond)
	p.checkDuration(path+".backoff", r.Backoff, time.Millisecond)
	if _, _, wrong := RetryOn(r.RetryOn); len(wrong) > 0 {
		p.addf(path+".retryOn", "%s", strings.Join(wrong, "; "))
	}
	if r.Attempts == 0 && (r.RetryOn != "" || r.PerTryTimeout != nil || r.Backoff != nil) {
		p.addf(path+".attempts", "is 0 or missing, so that no request is tried again and the rest changes nothing; set it, or remove the rest")
	}
}
