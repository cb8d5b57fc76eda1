package kube

import (
	"cmp"
	"log/slog"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/compile"
	"github.com/isthmus-mesh/isthmus/model"
)

// writeFirst writes all that the cluster has. Rows that a remote cluster had
// before, from an earlier Reader or a saved state, become the new ones in one
// change: none is missing for a moment, and none that is gone is left.
func (r *Reader) writeFirst() error {
	if !r.cfg.Remote {
		r.write(true)
		return nil
	}

	fresh, err := model.NewStore()
	if err != nil {
		return err
	}

	// Nobody else uses a remote Reader's store.
	store := r.store
	r.store = fresh
	r.write(true)
	r.store = store
	store.Replace(r.cfg.Cluster, fresh)
	return nil
}

// write brings all that is queued into the Store, in one transaction.
func (r *Reader) write(first bool) {
	refs := r.queue.take()
	if len(refs) == 0 && !first {
		return
	}

	txn := r.store.Write()
	defer txn.Abort()
	r.mu.Lock()
	defer r.mu.Unlock()

	// Order matters: pods and Services take from nodes, endpoints what they are
	// from services and pods, ServiceEntries what they may have from services. A
	// node or a namespace adds to refs what takes from it.
	for ref := range refs {
		switch ref.kind {
		case kindNode:
			r.writeNode(ref, refs)
		case kindNamespace:
			r.noteDistribution(ref, refs)
		}
	}

	endpoints := map[ref]bool{} // services whose endpoints are to be made anew
	entriesChanged, routesChanged, sidecarsChanged, serversChanged := false, false, false, false
	for ref := range refs {
		entriesChanged = r.writeOne(txn, ref, endpoints) || entriesChanged
		serversChanged = serversChanged || ref.kind == kindGateway || ref.kind == kindSecret
		// The mesh configuration says which namespace is the root.
		routesChanged = routesChanged || ref.kind == kindVirtual || ref.kind == kindGateway || ref.kind == kindMesh
		sidecarsChanged = sidecarsChanged || ref.kind == kindSidecar
	}

	for ref := range endpoints {
		r.writeEndpoints(txn, ref)
	}
	if entriesChanged {
		r.writeEntries(txn)
	}
	if routesChanged {
		r.tellRoutes(txn)
	}
	if sidecarsChanged {
		r.tellSidecars(txn)
	}
	if serversChanged {
		r.tellGateways(txn)
	}

	// The first transaction holds all that the cluster had: Synced says so, and
	// with it proxies may be served.
	if first {
		if r.builtins.mesh != nil && r.store.Meshes.NumObjects(txn) == 0 {
			r.store.Meshes.Put(txn, model.DefaultMesh(r.cfg.Cluster))
		}
		r.setClusterIn(txn, func(c *model.Cluster) { c.Synced = true })
	}
	txn.Commit()
}

// writeOne brings one object into the Store, but for nodes, endpoints and
// ServiceEntries, which wait for the others. It adds the services whose
// endpoints have to be made anew to endpoints, and tells whether ServiceEntries
// have to be settled anew.
func (r *Reader) writeOne(txn model.WriteTxn, c ref, endpoints map[ref]bool) (entriesChanged bool) {
	switch c.kind {
	case kindNamespace:
		r.writeNamespace(txn, c)
	case kindPod:
		r.writePod(txn, c, endpoints)
	case kindService:
		entriesChanged = r.noteServiceAddresses(c)
		r.writeService(txn, c)
		r.writeExport(txn, c.namespace, c.name)
		endpoints[serviceRef(c.namespace, c.name)] = true
	case kindSlice:
		endpoints[serviceRef(c.namespace, c.name)] = true
	case kindMesh:
		r.writeMesh(txn)
		entriesChanged = true // the root namespace may be another
	case kindRange:
		entriesChanged = r.readRange(c)
	case kindExport:
		r.writeExport(txn, c.namespace, c.name)
	case kindEntry:
		r.readEntry(c)
		entriesChanged = true
	case kindDestination, kindVirtual, kindSidecar, kindGateway, kindPeer:
		r.writePolicy(txn, c)
	case kindSecret:
		r.writeCredential(txn, c)
	case kindAuthorization:
		r.writeAuthorization(txn, c)
	case kindAuthentication:
		r.writeAuthentication(txn, c)
	}
	return entriesChanged
}

func serviceRef(namespace, name string) ref { return ref{kindService, namespace, name} }

// lookup finds an object in an informer's store.
func lookup[T any](inf cache.SharedIndexInformer, namespace, name string) (T, bool) {
	key := name
	if namespace != "" {
		key = namespace + "/" + name
	}
	var none T
	obj, ok, err := inf.GetStore().GetByKey(key)
	if err != nil || !ok {
		return none, false
	}
	t, ok := obj.(T)
	return t, ok
}

// writeNode notes what is known of a node, and queues what takes it from there.
func (r *Reader) writeNode(n ref, refs map[ref]struct{}) {
	var now compile.Node
	node, there := lookup[*corev1.Node](r.builtins.nodes, "", n.name)
	if there {
		now = compile.NodeOf(node)
	}
	old, known := r.nodes[n.name]
	if known && there && reflect.DeepEqual(old, now) {
		return
	}

	delete(r.nodes, n.name)
	if there {
		r.nodes[n.name] = now
	}
	for svc := range r.atNodes {
		refs[svc] = struct{}{}
	}
	if !known || !old.SameForPods(&now) {
		r.queuePodsOf(n.name, refs)
	}
}

// queuePodsOf queues the pods of a node. Those on the node's own network have no
// row that would change: the services that they are behind are queued instead.
func (r *Reader) queuePodsOf(node string, refs map[ref]struct{}) {
	pods, err := r.builtins.pods.GetIndexer().ByIndex(indexNode, node)
	if err != nil {
		return
	}
	for _, p := range pods {
		pod, ok := p.(*corev1.Pod)
		if !ok {
			continue
		}
		refs[ref{kindPod, pod.Namespace, pod.Name}] = struct{}{}
		if pod.Spec.HostNetwork {
			for _, svc := range r.servicesOf(pod.Namespace, pod.Name) {
				refs[ref{kindSlice, svc.namespace, svc.name}] = struct{}{}
			}
		}
	}
}

// servicesOf are the services that a pod is behind.
func (r *Reader) servicesOf(namespace, pod string) []ref {
	found, err := r.builtins.slices.GetIndexer().ByIndex(indexPod, namespace+"/"+pod)
	if err != nil {
		return nil
	}
	var out []ref
	for _, s := range found {
		if slice, ok := s.(*discoveryv1.EndpointSlice); ok {
			out = append(out, serviceRef(slice.Namespace, slice.Labels[discoveryv1.LabelServiceName]))
		}
	}
	return out
}

// noteDistribution notes what a namespace says of how its Services' calls are
// distributed, and queues those where that has changed.
func (r *Reader) noteDistribution(n ref, refs map[ref]struct{}) {
	said := ""
	if ns, ok := lookup[*corev1.Namespace](r.builtins.namespaces, "", n.name); ok {
		said = ns.Annotations[api.AnnotationDistribution]
	}
	if said == r.distributions[n.name] {
		return
	}

	delete(r.distributions, n.name)
	if said != "" {
		r.distributions[n.name] = said
	}
	services, err := r.builtins.services.GetIndexer().ByIndex(cache.NamespaceIndex, n.name)
	if err != nil {
		return
	}
	for _, s := range services {
		if svc, ok := s.(*corev1.Service); ok {
			refs[serviceRef(svc.Namespace, svc.Name)] = struct{}{}
		}
	}
}

func (r *Reader) writeNamespace(txn model.WriteTxn, n ref) {
	row := &model.Namespace{Cluster: r.cfg.Cluster, Name: n.name}
	ns, ok := lookup[*corev1.Namespace](r.builtins.namespaces, "", n.name)
	if n.name == r.cfg.Namespace {
		// That of the control plane says in which network all of the cluster is.
		network := ""
		if ok {
			network = ns.Labels[compile.LabelNetwork]
		}
		r.setClusterIn(txn, func(c *model.Cluster) { c.Network = network })
	}
	if !ok {
		r.store.Namespaces.Remove(txn, row.Key())
		return
	}
	row.Labels = ns.Labels
	r.store.Namespaces.Put(txn, row)
}

// writePod writes the pod's row, and notes the services that it is behind when
// that changed.
func (r *Reader) writePod(txn model.WriteTxn, p ref, endpoints map[ref]bool) {
	var row *model.Workload
	if pod, ok := lookup[*corev1.Pod](r.builtins.pods, p.namespace, p.name); ok {
		row = compile.Workload(r.cfg.Cluster, pod, r.nodes[pod.Spec.NodeName])
	}

	changed := false
	if row == nil {
		changed = r.store.Workloads.Remove(txn, model.WorkloadKey(r.cfg.Cluster, p.namespace, p.name))
	} else {
		changed = r.store.Workloads.Put(txn, row)
	}
	for _, svc := range r.servicesOf(p.namespace, p.name) {
		if changed || r.lastResort(txn, svc) {
			endpoints[svc] = true
		}
	}
}

// lastResort tells whether a service has no ready endpoint: then what it has hangs on
// what its pods say of themselves, which their rows do not show.
func (r *Reader) lastResort(txn model.ReadTxn, s ref) bool {
	set, _, ok := r.store.Endpoints.Get(txn, r.store.Endpoints.ByKey(r.serviceKey(s)))
	return ok && (len(set.Endpoints) == 0 || slices.ContainsFunc(set.Endpoints, func(e model.Endpoint) bool { return e.LastResort }))
}

func (r *Reader) serviceKey(s ref) string {
	svc := model.Service{
		Host:    compile.Host(s.namespace, s.name, r.cfg.ClusterDomain),
		Cluster: r.cfg.Cluster, Namespace: s.namespace, Name: s.name,
	}
	return svc.Key()
}

func (r *Reader) writeService(txn model.WriteTxn, s ref) {
	svc, ok := lookup[*corev1.Service](r.builtins.services, s.namespace, s.name)
	r.writeEntrance(txn, s, svc)
	if !ok {
		r.store.Services.Remove(txn, r.serviceKey(s))
		return
	}

	row, reason := compile.Service(r.cfg.Cluster, svc, r.cfg.ClusterDomain, r.distributions[s.namespace])
	if row == nil {
		r.log.Debug("service is not part of the mesh", "namespace", s.namespace, "service", s.name, "reason", reason)
		r.store.Services.Remove(txn, r.serviceKey(s))
		return
	}

	r.store.Services.Put(txn, row)
}

// writeEndpoints makes the endpoints of a service anew.
func (r *Reader) writeEndpoints(txn model.WriteTxn, s ref) {
	key := r.serviceKey(s)
	svc, _, ok := r.store.Services.Get(txn, r.store.Services.ByKey(key))
	if !ok {
		r.store.Endpoints.Remove(txn, key)
		r.store.Traits.Remove(txn, key)
		return
	}

	found, err := r.builtins.slices.GetIndexer().ByIndex(indexService, s.namespace+"/"+s.name)
	if err != nil {
		return
	}

	list := make([]*discoveryv1.EndpointSlice, 0, len(found))
	for _, obj := range found {
		if slice, ok := obj.(*discoveryv1.EndpointSlice); ok {
			list = append(list, slice)
		}
	}

	// Informers give them in no order, and the rows are to be the same each
	// time.
	slices.SortFunc(list, func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })

	set, traits := compile.Endpoints(svc, list, compile.Lookups{
		Workload: func(namespace, name string) *model.Workload {
			w, _, _ := r.store.Workloads.Get(txn, r.store.Workloads.ByKey(model.WorkloadKey(r.cfg.Cluster, namespace, name)))
			return w
		},
		Answers: func(namespace, name string) bool {
			pod, ok := lookup[*corev1.Pod](r.builtins.pods, namespace, name)
			return ok && compile.PodAnswers(pod)
		},
		Node: func(name string) compile.Node { return r.nodes[name] },
	})
	r.store.Endpoints.Put(txn, set)
	r.store.Traits.Put(txn, traits)
}

// writeMesh writes the rows of the mesh configuration. A text that cannot be
// read at all leaves the last good one in force.
func (r *Reader) writeMesh(txn model.WriteTxn) {
	data := configMapData(r.builtins.mesh, r.cfg.Namespace, r.cfg.MeshConfigMap)
	mc, warnings, err := api.LoadMeshConfig(data["mesh"])
	if err != nil {
		r.tellMesh(slog.LevelError, "the mesh configuration cannot be read; the last good one stays in force", err.Error())
		return
	}

	nets, more, err := api.LoadMeshNetworks(cmp.Or(data["meshNetworks"], "{}"))
	if err != nil {
		r.tellMesh(slog.LevelError, "the mesh networks cannot be read; the last good ones stay in force", err.Error())
		return
	}

	for _, w := range more {
		warnings = append(warnings, "meshNetworks: left out: "+w)
	}
	r.tellMesh(slog.LevelWarn, "parts of the mesh configuration are not in force", strings.Join(warnings, "; "))

	row := compile.Mesh(r.cfg.Cluster, mc)
	if old, _, ok := r.store.Meshes.Get(txn, r.store.Meshes.ByKey(row.Key())); ok && old.TrustDomain != row.TrustDomain {
		// Certificates are signed in the trust domain that the process
		// started with: what proxies expect must go with them.
		r.log.Error("trustDomain was changed; the change takes effect when every istiod and then every proxy is restarted",
			"from", old.TrustDomain, "to", row.TrustDomain)
		row.TrustDomain = old.TrustDomain
	}
	r.store.Meshes.Put(txn, row)

	named := map[string]bool{}
	for _, n := range compile.Networks(r.cfg.Cluster, nets) {
		named[n.Key()] = true
		r.store.Networks.Put(txn, n)
	}

	for n := range r.store.Networks.All(txn) {
		if n.Cluster == r.cfg.Cluster && !named[n.Key()] {
			r.store.Networks.Remove(txn, n.Key())
		}
	}
}

// decode reads a configuration object. It is nil when it does not exist, or is
// wrong: then it is logged and gets a condition, and no other is harmed.
func (r *Reader) decode(c ref) (obj *api.Object, exists bool) {
	u, _ := r.kinds.get(c)
	if u == nil || ofOtherRevision(u.GetLabels(), r.cfg.Revision) {
		delete(r.told, c)
		return nil, false
	}

	raw, err := u.MarshalJSON()
	if err == nil {
		obj, err = api.Decode(raw)
	}
	if err != nil {
		r.tell(c, outcome{err: err})
		return nil, true
	}
	return obj, true
}

// ofOtherRevision tells whether an object is meant for another control plane
// than the one of revision ours.
func ofOtherRevision(labels map[string]string, ours string) bool {
	revision := labels[api.LabelRevision]
	return revision != "" && revision != ours
}

// writePolicy writes the row of a DestinationRule, VirtualService, Sidecar, Gateway
// or PeerAuthentication.
func (r *Reader) writePolicy(txn model.WriteTxn, c ref) {
	obj, exists := r.decode(c)
	if obj == nil && exists && (c.kind == kindPeer || c.kind == kindSidecar) {
		// An edit that is wrong must not open what was closed: the last
		// good one stays.
		return
	}

	if obj != nil && c.kind != kindVirtual && c.kind != kindGateway { // tellRoutes, tellGateways
		r.tell(c, outcome{notes: api.Warnings(obj)})
	}
	if obj == nil {
		obj = &api.Object{Namespace: c.namespace, Name: c.name}
	}

	switch c.kind {
	case kindDestination:
		if obj.Spec != nil {
			r.store.Destinations.Put(txn, compile.DestinationRule(r.cfg.Cluster, obj, r.cfg.ClusterDomain))
			return
		}
		r.store.Destinations.Remove(txn, (&model.DestinationRule{Cluster: r.cfg.Cluster, Namespace: c.namespace, Name: c.name}).Key())
	case kindVirtual:
		if obj.Spec != nil {
			r.store.Virtuals.Put(txn, compile.VirtualService(r.cfg.Cluster, obj, r.cfg.ClusterDomain))
			return
		}
		r.store.Virtuals.Remove(txn, (&model.VirtualService{Cluster: r.cfg.Cluster, Namespace: c.namespace, Name: c.name}).Key())
	case kindSidecar:
		if obj.Spec != nil {
			r.store.Sidecars.Put(txn, compile.Sidecar(r.cfg.Cluster, obj))
			return
		}
		r.store.Sidecars.Remove(txn, (&model.Sidecar{Cluster: r.cfg.Cluster, Namespace: c.namespace, Name: c.name}).Key())
	case kindGateway:
		if obj.Spec != nil {
			r.store.Gateways.Put(txn, compile.Gateway(r.cfg.Cluster, obj))
			return
		}
		r.store.Gateways.Remove(txn, (&model.Gateway{Cluster: r.cfg.Cluster, Namespace: c.namespace, Name: c.name}).Key())
	case kindPeer:
		if obj.Spec != nil {
			r.store.Peers.Put(txn, compile.PeerAuthentication(r.cfg.Cluster, obj))
			return
		}
		r.store.Peers.Remove(txn, (&model.PeerAuthentication{Cluster: r.cfg.Cluster, Namespace: c.namespace, Name: c.name}).Key())
	}
}
