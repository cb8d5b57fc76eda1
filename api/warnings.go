package api

import (
	"fmt"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	security "istio.io/api/security/v1beta1"
)

// Labels of configuration objects that the mesh acts on.
const (
	// LabelAllocate, set to "false" on a ServiceEntry, keeps the mesh from
	// giving its hosts an address.
	LabelAllocate = "networking.istio.io/enable-autoallocate-ip"
	// AnnotationDistribution says on a Service or a ServiceEntry what
	// spec.trafficDistribution of a Service does.
	AnnotationDistribution = "networking.istio.io/traffic-distribution"
)

// Distributions are the values of AnnotationDistribution. The first leaves it to
// the mesh.
func Distributions() []string {
	return []string{"Any", "PreferClose", "PreferSameZone", "PreferSameNode"}
}

// Warnings lists what a valid object asks for without effect, each with the path
// of the field. kubectl shows them when the object is applied, and they stand in
// its status.
func Warnings(obj *Object) []string {
	var w problems
	switch spec := obj.Spec.(type) {
	case *networking.ServiceEntry:
		warnServiceEntry(&w, spec)
	case *networking.DestinationRule:
		warnDestinationRule(&w, spec)
	case *networking.Gateway:
		warnGateway(&w, obj.Namespace, spec)
	case *security.AuthorizationPolicy:
		warnAuthorizationPolicy(&w, spec)
	}
	warnMetadata(&w, "metadata.labels", obj.Kind, obj.Labels)
	warnMetadata(&w, "metadata.annotations", obj.Kind, obj.Annotations)
	return w
}

// warnServiceEntry notes what of a ServiceEntry changes nothing.
func warnServiceEntry(w *problems, se *networking.ServiceEntry) {
	ports := 0
	for i, port := range se.Ports {
		if strings.EqualFold(port.Protocol, "UDP") {
			w.addf(indexed("spec.ports", i), "changes nothing: sidecars carry TCP only, and UDP goes where the client sends it")
			continue
		}
		ports++
	}
	if ports == 0 {
		w.addf("spec.ports", "lists no port that sidecars carry: the hosts get their addresses and nothing else")
	}
	if se.Resolution == networking.ServiceEntry_STATIC && len(se.Endpoints) == 0 {
		w.addf("spec.endpoints", "is empty: calls to the hosts are answered with 503 until it lists addresses")
	}
	warnNetworks(w, se)
	warnLocalities(w, se)
	if se.Location == networking.ServiceEntry_MESH_EXTERNAL && len(se.SubjectAltNames) > 0 {
		w.addf("spec.subjectAltNames", "changes nothing for MESH_EXTERNAL: sidecars do not open TLS to its endpoints")
	}
}

// warnNetworks notes endpoints whose network has another effect than people may
// expect.
func warnNetworks(w *problems, se *networking.ServiceEntry) {
	for i, ep := range se.Endpoints {
		at := indexed("spec.endpoints", i) + ".network"
		switch {
		case ep.Network == "":
		case se.Resolution != networking.ServiceEntry_STATIC:
			w.addf(at, "changes nothing: with resolution %s the address is called directly from every network; set spec.resolution to STATIC, or give the address of that network's gateway", se.Resolution)
		case se.Location == networking.ServiceEntry_MESH_EXTERNAL:
			w.addf(at, "hides the endpoint from all other networks: their gateways pass on mutual TLS alone, which nothing of MESH_EXTERNAL takes; remove it, or set spec.location to MESH_INTERNAL")
		}
	}
}

// warnLocalities notes endpoints whose locality does not say where they are.
func warnLocalities(w *problems, se *networking.ServiceEntry) {
	for i, ep := range se.Endpoints {
		if region, _, _ := strings.Cut(ep.Locality, "/"); region == "" && ep.Locality != "" {
			w.addf(indexed("spec.endpoints", i)+".locality", "%q names no region, and so no place: the endpoint comes after all whose place is known; give region/zone/subzone", ep.Locality)
		}
	}
}

// warnDestinationRule notes what of a DestinationRule changes nothing.
func warnDestinationRule(w *problems, dr *networking.DestinationRule) {
	eachPolicy(dr, func(path string, s Policy) { warnPolicy(w, path, s) })
}

// warnPolicy notes what changes nothing of a policy, be it for a host, a subset or
// a port.
func warnPolicy(w *problems, path string, s Policy) {
	if tls := s.GetTls(); tls.GetMode() == networking.ClientTLSSettings_DISABLE && tls.GetSni() != "" {
		w.addf(path+".tls.sni", "changes nothing with mode DISABLE")
	}
	warnOutlierDetection(w, path+".outlierDetection", s.GetOutlierDetection())
	warnLocality(w, path+".loadBalancer.localityLbSetting", s.GetLoadBalancer().GetLocalityLbSetting())
}

// warnGateway notes how far the servers of a Gateway reach. What a server passes
// through by its server name leads into every namespace, so whoever may write
// Gateways in one must not open the gateway of another with it.
func warnGateway(w *problems, namespace string, gw *networking.Gateway) {
	for i, s := range gw.Servers {
		if PlainHTTP(s) || PlainTCP(s) || EndsTLS(s) {
			continue
		}
		switch s.GetTls().GetMode() {
		case networking.ServerTLSSettings_PASSTHROUGH:
			if slices.ContainsFunc(s.Hosts, namesOtherService(namespace)) {
				w.addf(indexed("spec.servers", i), "opens Services of other namespaces at gateway pods of namespace %q only, unless that is the mesh's root namespace; elsewhere tls routes of VirtualServices say where connections go", namespace)
			}
		case networking.ServerTLSSettings_AUTO_PASSTHROUGH:
			w.addf(indexed("spec.servers", i), "counts for gateway pods of namespace %q only, unless that is the mesh's root namespace: AUTO_PASSTHROUGH opens services of every namespace; it leads to Kubernetes Services alone, never to hosts of ServiceEntries, whose endpoints anybody may choose", namespace)
		}
	}
}

// namesOtherService tells of hosts whether they are the name of a Service of another namespace.
func namesOtherService(own string) func(string) bool {
	return func(host string) bool {
		label := strings.Split(PlainHost(host), ".")
		return len(label) > 2 && label[2] == "svc" && label[1] != own && !strings.ContainsAny(host, "*/")
	}
}

// warnMetadata notes labels or annotations of the Istio API that mean nothing
// on an object of the kind.
func warnMetadata(w *problems, path string, kind Kind, have map[string]string) {
	for _, key := range sortedMapKeys(have) {
		switch {
		case key == LabelRevision, key == LabelAllocate && kind == KindServiceEntry && path == "metadata.labels",
			key == AnnotationLoadBalancer && kind == KindDestinationRule && path == "metadata.annotations",
			key == annotationAlwaysReject:
		case key == AnnotationDistribution && kind == KindServiceEntry && path == "metadata.annotations":
			if value := have[key]; !slices.Contains(Distributions(), value) {
				w.addf(path+"["+key+"]", "%q changes nothing; give one of %s", value, strings.Join(Distributions(), ", "))
			}
		case strings.HasPrefix(key, "networking.istio.io/"), strings.HasPrefix(key, "topology.istio.io/"),
			strings.HasPrefix(key, "ambient.istio.io/"), strings.HasPrefix(key, "traffic.sidecar.istio.io/"),
			strings.HasPrefix(key, "sidecar.istio.io/"), strings.HasPrefix(key, "proxy.istio.io/"),
			strings.HasPrefix(key, "prometheus.istio.io/"), strings.HasPrefix(key, "security.istio.io/"),
			strings.HasPrefix(key, "isthmus.io/"), key == "istio.io/dataplane-mode", key == "istio.io/use-waypoint", key == "istio-locality":
			w.addf(path+"["+key+"]", "changes nothing on a %s", kind)
		}
	}
}

// annotationAlwaysReject asks the webhook to refuse an object whatever it holds:
// a control plane or an operator finds out by it whether validation stands.
const annotationAlwaysReject = "internal.istio.io/webhook-always-reject"

// errAlwaysReject answers annotationAlwaysReject.
func errAlwaysReject() error {
	return fmt.Errorf("metadata.annotations[%s]: refused, as the annotation asks", annotationAlwaysReject)
}
