package kube

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/compile"
	"github.com/isthmus-mesh/isthmus/model"
)

// noteServiceAddresses notes the addresses that a Service has, also when the
// mesh has no use for it, and tells whether a ServiceEntry may have to yield one
// or get one back.
func (r *Reader) noteServiceAddresses(s ref) bool {
	var addresses []netip.Addr
	if svc, ok := lookup[*corev1.Service](r.builtins.services, s.namespace, s.name); ok {
		for _, text := range slices.Concat([]string{svc.Spec.ClusterIP}, svc.Spec.ClusterIPs, svc.Spec.ExternalIPs) {
			if a, err := netip.ParseAddr(text); err == nil && !slices.Contains(addresses, a) {
				addresses = append(addresses, a)
			}
		}
	}

	old := r.addresses[s]
	if slices.Equal(old, addresses) {
		return false
	}

	if len(addresses) == 0 {
		delete(r.addresses, s)
	} else {
		r.addresses[s] = addresses
	}
	return r.entriesTouch(slices.Concat(old, addresses))
}

// entriesTouch tells whether a ServiceEntry lists one of the addresses.
func (r *Reader) entriesTouch(addresses []netip.Addr) bool {
	for _, obj := range r.entries {
		for _, text := range obj.Spec.(*networking.ServiceEntry).Addresses {
			prefix, err := api.ParseAddress(text)
			if err == nil && slices.ContainsFunc(addresses, prefix.Contains) {
				return true
			}
		}
	}
	return false
}

// readRange reads a ServiceCIDR, and tells whether it changed.
func (r *Reader) readRange(c ref) bool {
	var ranges []netip.Prefix
	if u, _ := r.kinds.get(c); u != nil {
		list, _, err := unstructured.NestedStringSlice(u.Object, "spec", "cidrs")
		if err != nil {
			r.log.Warn("a ServiceCIDR cannot be read: ServiceEntries are held against the addresses that Services have, not against this range", "name", c.name, "error", err)
		}
		for _, text := range list {
			if p, err := netip.ParsePrefix(text); err == nil {
				ranges = append(ranges, p)
			}
		}
	}

	if slices.Equal(r.ranges[c], ranges) {
		return false
	}
	if len(ranges) == 0 {
		delete(r.ranges, c)
	} else {
		r.ranges[c] = ranges
	}
	return true
}

// estateLocked is what ServiceEntries may not take.
func (r *Reader) estateLocked(txn model.ReadTxn) api.Estate {
	in := api.Estate{
		RootNamespace: r.store.Mesh(txn, r.cfg.Cluster).RootNamespace,
		ClusterDomain: r.cfg.ClusterDomain,
		GlobalSuffix:  r.cfg.GlobalDomain,
		Services:      make(map[netip.Addr]string, len(r.addresses)),
	}

	for s, addresses := range r.addresses {
		for _, a := range addresses {
			name := s.namespace + "/" + s.name
			// Two Services may have one external IP: name the same one
			// each time.
			if old, shared := in.Services[a]; !shared || name < old {
				in.Services[a] = name
			}
		}
	}

	in.Ranges = slices.Clone(r.cfg.GivenRanges)
	for _, ranges := range r.ranges {
		in.Ranges = append(in.Ranges, ranges...)
	}
	slices.SortFunc(in.Ranges, func(a, b netip.Prefix) int { return a.Compare(b) })
	return in
}

// readEntry reads a ServiceEntry; writeEntries makes its rows.
func (r *Reader) readEntry(c ref) {
	if obj, _ := r.decode(c); obj != nil {
		r.entries[c] = obj
	} else {
		delete(r.entries, c)
	}
}

// writeEntries settles between all ServiceEntries and writes their rows: what
// one may have depends on the others.
func (r *Reader) writeEntries(txn model.WriteTxn) {
	refs := make([]ref, 0, len(r.entries))
	objects := make([]*api.Object, 0, len(r.entries))
	for c, obj := range r.entries {
		refs = append(refs, c)
		objects = append(objects, obj)
	}

	// In an order of its own, so that the log is the same each time.
	slices.SortFunc(refs, func(a, b ref) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
	})

	in := r.estateLocked(txn)
	settled := api.Settle(objects, in)
	compiled, notes := r.compileEntries(settled, in)
	services, endpoints := map[string]bool{}, map[string]bool{} // keys of rows in force
	for _, c := range refs {
		obj := r.entries[c]
		s := settled[obj]
		all := slices.Concat(s.Notes, notes[compile.EntryName{Namespace: obj.Namespace, Name: obj.Name}], api.Warnings(obj))
		r.tell(c, outcome{err: s.Refused, notes: all, addresses: s.Allocated, entry: true, version: obj.Version})
		if s.Refused == nil {
			r.putEntry(txn, compiled[obj], services, endpoints)
		}
	}

	// What an entry had before and has no more. A host that is resolved in
	// another way now keeps its service, and loses its endpoints.
	for key := range r.entryKeys {
		if !services[key] {
			r.store.Services.Remove(txn, key)
			r.store.Traits.Remove(txn, key)
		}
		if !endpoints[key] {
			r.store.Endpoints.Remove(txn, key)
		}
	}
	r.entryKeys = services
}

// putEntry writes the rows of one ServiceEntry and adds their keys to those in
// force.
func (r *Reader) putEntry(txn model.WriteTxn, rows compile.EntryRows, services, endpoints map[string]bool) {
	for _, svc := range rows.Services {
		services[svc.Key()] = true
		r.store.Services.Put(txn, svc)
	}
	for _, e := range rows.Endpoints {
		endpoints[e.Key()] = true
		r.store.Endpoints.Put(txn, e)
	}
	for _, t := range rows.Traits {
		r.store.Traits.Put(txn, t)
	}
}

// compileEntries makes the rows of all ServiceEntries that are in force, and
// says what of them has no effect beside the others.
func (r *Reader) compileEntries(settled map[*api.Object]*api.Settlement, in api.Estate) (map[*api.Object]compile.EntryRows, map[compile.EntryName][]string) {
	out := make(map[*api.Object]compile.EntryRows, len(settled))
	var services []*model.Service
	for obj, s := range settled {
		if s.Refused != nil {
			continue
		}
		rows := compile.ServiceEntry(r.cfg.Cluster, obj, s.Allocated)
		for _, svc := range rows.Services {
			svc.NamedAfter = in.Names(svc.Host, svc.Namespace)
			svc.JoinsService = in.NamesService(svc.Host)
		}
		out[obj] = rows
		services = append(services, rows.Services...)
	}

	return out, compile.EntryNotes(services)
}

// Check holds an object that is about to be applied against what the cluster
// has: the error refuses it, the notes say what of it would change nothing. It
// knows what the Reader has read so far.
func (r *Reader) Check(obj *api.Object) (notes []string, err error) {
	switch {
	case ofOtherRevision(obj.Labels, r.cfg.Revision):
		return nil, nil
	case obj.Kind == api.KindVirtualService:
		return r.checkRoutes(obj), nil
	case obj.Kind == api.KindSidecar:
		return r.checkSidecar(obj), nil
	case obj.Kind != api.KindServiceEntry:
		return nil, nil
	}

	r.mu.Lock()
	defer r.mu.Unlock()

	candidate := *obj

	// What the object's status says is the API server's to tell, later.
	candidate.Status = api.Status{}
	objects := []*api.Object{&candidate}
	newest := time.Time{}
	for c, other := range r.entries {
		if c.namespace == obj.Namespace && c.name == obj.Name {
			// An edit: it keeps its age, and the addresses that it was given.
			candidate.Created, candidate.Status.Addresses = other.Created, other.Status.Addresses
			continue
		}

		objects = append(objects, other)
		if other.Created.After(newest) {
			newest = other.Created
		}
	}

	if candidate.Created.IsZero() {
		// A new one is younger than all others, and so yields to them.
		candidate.Created = newest.Add(time.Second)
	}

	in := r.estateLocked(r.store.Read())
	settled := api.Settle(objects, in)
	s := settled[&candidate]
	if s.Refused != nil {
		return nil, s.Refused
	}
	_, beside := r.compileEntries(settled, in)
	return slices.Concat(s.Notes, beside[compile.EntryName{Namespace: obj.Namespace, Name: obj.Name}]), nil
}
