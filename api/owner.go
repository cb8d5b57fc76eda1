package api

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

// NamedNamespace is the namespace that a host's name speaks of: NAMESPACE in
// NAME.NAMESPACE.svc.CLUSTERDOMAIN and in NAME.NAMESPACE.global, under whatever
// suffix clusters know each other by. It is empty for names of other shapes.
func NamedNamespace(host, clusterDomain, globalSuffix string) string {
	if inner, ok := strings.CutSuffix(host, ".svc."+clusterDomain); ok {
		return inner[strings.LastIndexByte(inner, '.')+1:]
	}
	if inner, ok := strings.CutSuffix(host, "."+globalSuffix); ok {
		if name, namespace, two := strings.Cut(inner, "."); two && name != "" && !strings.Contains(namespace, ".") {
			return namespace
		}
	}
	return ""
}

// Names tells whether a host's name speaks of the namespace.
func (in Estate) Names(host, namespace string) bool {
	in.complete()
	return NamedNamespace(host, in.ClusterDomain, in.GlobalSuffix) == namespace
}

// NamesService tells whether a host is the name of a Service.
func (in Estate) NamesService(host string) bool {
	in.complete()
	return serviceNamespace(host, in.ClusterDomain) != "" && !strings.HasPrefix(host, "*")
}

// checkOwnHosts says why a namespace may not declare the hosts of a
// ServiceEntry: the names of Services belong to the namespace that they speak
// of, and whole top-level domains to nobody but the root namespace. Nil when it
// may.
func checkOwnHosts(obj *Object, se *networking.ServiceEntry, in Estate) error {
	if obj.Namespace == in.RootNamespace {
		return nil
	}
	var p problems
	for i, host := range se.Hosts {
		at, host := indexed("spec.hosts", i), PlainHost(host)
		suffix, wildcard := strings.CutPrefix(host, "*")
		suffix = strings.TrimPrefix(suffix, ".")
		switch named := serviceNamespace(host, in.ClusterDomain); {
		case wildcard && (suffix == "svc" || strings.HasSuffix(".svc."+in.ClusterDomain, "."+suffix)):
			p.addf(at, "%q covers the Services of every namespace: only ServiceEntries of namespace %q may declare it", host, in.RootNamespace)
		case named == obj.Namespace:
		case named != "":
			p.addf(at, "%q is the name of a Service of namespace %q: only ServiceEntries of that namespace or of %q may declare it", host, named, in.RootNamespace)
		case wildcard && !strings.Contains(suffix, ".") && !private(se, obj.Namespace):
			p.addf(at, "%q takes a whole top-level domain from every namespace; set spec.exportTo to [\".\"], give a longer suffix, or declare it in namespace %q", host, in.RootNamespace)
		}
	}
	return p.err()
}

// serviceNamespace is the namespace of a Service by any of its names but those
// that other hosts may have too: NAME.NAMESPACE.svc with and without the
// cluster's domain, and what is below.
func serviceNamespace(host, clusterDomain string) string {
	inner, ok := strings.CutSuffix(host, ".svc."+clusterDomain)
	if !ok {
		inner, ok = strings.CutSuffix(host, ".svc")
	}
	if !ok {
		return ""
	}
	return inner[strings.LastIndexByte(inner, '.')+1:]
}

// private tells whether a ServiceEntry counts in its own namespace at most.
func private(se *networking.ServiceEntry, namespace string) bool {
	return len(se.ExportTo) > 0 && !slices.ContainsFunc(se.ExportTo, func(e string) bool {
		return e != "." && e != "~" && e != namespace
	})
}

// Public tells whether a ServiceEntry counts in every namespace.
func Public(se *networking.ServiceEntry) bool {
	return len(se.ExportTo) == 0 || slices.Contains(se.ExportTo, "*")
}

// byAge orders objects by their creation, which nobody can choose, then by
// name.
func byAge(a, b *Object) int {
	return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// label is how an object is named in messages.
func label(o *Object) string { return fmt.Sprintf("%s %s/%s", o.Kind, o.Namespace, o.Name) }
