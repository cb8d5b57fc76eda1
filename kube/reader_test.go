package kube

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	fakediscovery "k8s.io/client-go/discovery/fake"
	fakedynamic "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// These tests hold the writing of rows to what it should be. How API servers
// behave is tested against real ones.

var entriesResource = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "serviceentries"}

var policiesResource = schema.GroupVersionResource{Group: "security.istio.io", Version: "v1", Resource: "authorizationpolicies"}

var peersResource = schema.GroupVersionResource{Group: "security.istio.io", Version: "v1", Resource: "peerauthentications"}

var sidecarsResource = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "sidecars"}

var rangesResource = schema.GroupVersionResource{Group: "networking.k8s.io", Version: "v1", Resource: "servicecidrs"}

var exportsResource = schema.GroupVersionResource{Group: "multicluster.x-k8s.io", Version: "v1beta1", Resource: "serviceexports"}

type cluster struct {
	t      *testing.T
	store  *model.Store
	kube   *fake.Clientset
	dyn    *fakedynamic.FakeDynamicClient
	reader *Reader
}

func newCluster(t *testing.T, objects ...runtime.Object) *cluster {
	store, err := model.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, store: store, kube: fake.NewClientset(objects...)}
	c.kube.Discovery().(*fakediscovery.FakeDiscovery).Resources = []*metav1.APIResourceList{{
		GroupVersion: "networking.istio.io/v1",
		APIResources: []metav1.APIResource{
			{Name: "serviceentries", Kind: "ServiceEntry", Namespaced: true},
			{Name: "sidecars", Kind: "Sidecar", Namespaced: true},
		},
	}, {
		GroupVersion: "security.istio.io/v1",
		APIResources: []metav1.APIResource{{
			Name:       "peerauthentications",
			Kind:       "PeerAuthentication",
			Namespaced: true,
		}, {
			Name: "authorizationpolicies", Kind: "AuthorizationPolicy", Namespaced: true,
		}, {
			Name: "requestauthentications", Kind: "RequestAuthentication", Namespaced: true,
		}},
	}, {
		GroupVersion: "networking.k8s.io/v1",
		APIResources: []metav1.APIResource{{Name: "servicecidrs", Kind: "ServiceCIDR"}},
	}, {
		GroupVersion: "multicluster.x-k8s.io/v1beta1",
		APIResources: []metav1.APIResource{{Name: "serviceexports", Kind: "ServiceExport", Namespaced: true}},
	}}
	c.dyn = fakedynamic.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(),
		map[schema.GroupVersionResource]string{
			entriesResource: "ServiceEntryList", peersResource: "PeerAuthenticationList", rangesResource: "ServiceCIDRList",
			exportsResource: "ServiceExportList", sidecarsResource: "SidecarList", policiesResource: "AuthorizationPolicyList",
			authenticationsResource: "RequestAuthenticationList",
		})
	numberVersions(c.dyn)
	status := NewStatusWriter(c.dyn, slog.New(slog.DiscardHandler))
	r, err := NewReader(store, Clients{Kube: c.kube, Dynamic: c.dyn}, Config{
		GivenRanges: []netip.Prefix{netip.MustParsePrefix("242.0.0.0/8")},
		Cluster:     "c1", Network: "net", MeshConfigMap: "istio", Logger: slog.New(slog.DiscardHandler),
		Status: status,
	})
	if err != nil {
		t.Fatal(err)
	}
	c.reader = r
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	written := make(chan struct{})
	go func() {
		defer close(written)
		status.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done; <-written })
	c.eventually("synced", func(txn model.ReadTxn) bool {
		row, _, ok := store.Clusters.Get(txn, store.Clusters.ByKey("c1"))
		return ok && row.Synced
	})
	return c
}

// eventually waits for a state of the tables.
func (c *cluster) eventually(what string, holds func(model.ReadTxn) bool) {
	c.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !holds(c.store.Read()) {
		if time.Now().After(deadline) {
			c.t.Fatal("never came: " + what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (c *cluster) endpoints(txn model.ReadTxn) *model.EndpointSet {
	for e := range c.store.Endpoints.List(txn, c.store.Endpoints.ByKey("web.shop.svc.cluster.local\x00c1\x00shop\x00web")) {
		return e
	}
	return nil
}

func shop() []runtime.Object {
	name, port, yes := "http", int32(8080), true
	return []runtime.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}},
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{corev1.LabelTopologyRegion: "r1"}}},
		&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
			Spec: corev1.ServiceSpec{ClusterIP: "10.0.0.1", Ports: []corev1.ServicePort{{
				Name: "http",
				Port: 80,
			}}},
		},
		&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1", Labels: map[string]string{"security.istio.io/tlsMode": "istio"}},
			Spec:       corev1.PodSpec{NodeName: "n1", ServiceAccountName: "web"},
			Status:     corev1.PodStatus{PodIP: "10.1.0.1", Phase: corev1.PodRunning},
		},
		&discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: "web-x", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
			Endpoints: []discoveryv1.Endpoint{{
				Addresses: []string{"10.1.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: &yes},
				TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "web-1"},
			}},
		},
	}
}

// TestFirstWriteIsComplete: when the cluster counts as synced, everything that
// it held is there, joined.
func TestFirstWriteIsComplete(t *testing.T) {
	c := newCluster(t, shop()...)
	e := c.endpoints(c.store.Read())
	if e == nil || len(e.Endpoints) != 1 {
		t.Fatalf("endpoints: %+v", e)
	}
	got := e.Endpoints[0]
	if !got.TLS || got.Locality != "r1" || got.Account != "shop/web" || got.Network != "" || got.Ports["http"] != 8080 {
		t.Errorf("endpoint: %+v", got)
	}
}

func TestNeighboursChangeEndpoints(t *testing.T) {
	c := newCluster(t, shop()...)
	ctx := context.Background()
	node, err := c.kube.CoreV1().Nodes().Get(ctx, "n1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	node = node.DeepCopy()
	node.Labels[corev1.LabelTopologyRegion] = "r2"
	if _, err := c.kube.CoreV1().Nodes().Update(ctx, node, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the node's new place", func(txn model.ReadTxn) bool {
		return c.endpoints(txn).Endpoints[0].Locality == "r2"
	})
	pod, err := c.kube.CoreV1().Pods("shop").Get(ctx, "web-1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod = pod.DeepCopy()
	pod.Labels = nil
	if _, err := c.kube.CoreV1().Pods("shop").Update(ctx, pod, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the pod's new labels", func(txn model.ReadTxn) bool { return !c.endpoints(txn).Endpoints[0].TLS })
	if err := c.kube.CoreV1().Services("shop").Delete(ctx, "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("nothing of a deleted service", func(txn model.ReadTxn) bool {
		return c.endpoints(txn) == nil && c.store.Services.NumObjects(txn) == 0 && c.store.Traits.NumObjects(txn) == 0
	})
}

// TestLostNodeTakesNoEndpoint: Kubernetes calls the pods of a node not ready that it
// does not hear of; the last ones stay, until the kubelet itself says that they are
// not ready.
func TestLostNodeTakesNoEndpoint(t *testing.T) {
	objects := shop()
	for _, o := range objects {
		if pod, ok := o.(*corev1.Pod); ok {
			pod.Status.Conditions = []corev1.PodCondition{
				{Type: corev1.PodReady, Status: corev1.ConditionTrue},
				{Type: corev1.ContainersReady, Status: corev1.ConditionTrue},
			}
		}
	}
	c := newCluster(t, objects...)
	ctx := context.Background()

	slice, err := c.kube.DiscoveryV1().EndpointSlices("shop").Get(ctx, "web-x", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	slice = slice.DeepCopy()
	no := false
	slice.Endpoints[0].Conditions = discoveryv1.EndpointConditions{Ready: &no, Serving: &no, Terminating: &no}
	if _, err := c.kube.DiscoveryV1().EndpointSlices("shop").Update(ctx, slice, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the endpoint, of last resort", func(txn model.ReadTxn) bool {
		e := c.endpoints(txn)
		return len(e.Endpoints) == 1 && e.Endpoints[0].LastResort
	})

	pod, err := c.kube.CoreV1().Pods("shop").Get(ctx, "web-1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod = pod.DeepCopy()
	say := func(containersReady corev1.ConditionStatus) {
		pod = pod.DeepCopy()
		pod.Status.Conditions = []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionFalse},
			{Type: corev1.ContainersReady, Status: containersReady},
		}
		if _, err := c.kube.CoreV1().Pods("shop").Update(ctx, pod, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	say(corev1.ConditionFalse)
	c.eventually("no endpoint", func(txn model.ReadTxn) bool { return len(c.endpoints(txn).Endpoints) == 0 })
	say(corev1.ConditionTrue)
	c.eventually("the endpoint again", func(txn model.ReadTxn) bool { return len(c.endpoints(txn).Endpoints) == 1 })
}

// TestSameRowStays: an event that changes nothing that counts replaces no row.
func TestSameRowStays(t *testing.T) {
	c := newCluster(t, shop()...)
	ctx := context.Background()
	before := c.endpoints(c.store.Read())
	pod, err := c.kube.CoreV1().Pods("shop").Get(ctx, "web-1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod = pod.DeepCopy()
	pod.Annotations = map[string]string{"a": "b"}
	if _, err := c.kube.CoreV1().Pods("shop").Update(ctx, pod, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	// A second change, of another object, shows that the first was seen.
	if _, err := c.kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "later"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the namespace", func(txn model.ReadTxn) bool { return c.store.Namespaces.NumObjects(txn) == 2 })
	time.Sleep(20 * time.Millisecond)
	if after := c.endpoints(c.store.Read()); after != before {
		t.Error("the endpoints were replaced by their like")
	}
}

func entry(name string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
		"metadata": map[string]any{"namespace": "shop", "name": name}, "spec": spec,
	}}
}

// TestWrongEntryHarmsNoOther: a wrong object is skipped, with a condition; the
// right ones are in force.
func TestWrongEntryHarmsNoOther(t *testing.T) {
	c := newCluster(t)
	ctx := context.Background()
	ports := []any{map[string]any{"name": "http", "number": int64(80), "protocol": "HTTP"}}
	for name, spec := range map[string]map[string]any{
		"good": {
			"hosts":      []any{"good.global"},
			"ports":      ports,
			"resolution": "STATIC",
			"endpoints":  []any{map[string]any{"address": "1.2.3.4"}},
		},
		"bad": {
			"hosts":      []any{"bad.global"},
			"ports":      ports,
			"resolution": "STATIC",
			"endpoints":  []any{map[string]any{"address": "127.0.0.1"}},
		},
		"odd": {"hosts": []any{"odd.global"}, "ports": ports, "resolution": "SOMEHOW"},
	} {
		if _, err := c.dyn.Resource(entriesResource).Namespace("shop").Create(ctx, entry(name, spec), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	only := func(txn model.ReadTxn) *model.Service {
		for s := range c.store.Services.All(txn) {
			return s
		}
		return nil
	}
	c.eventually("the good entry", func(txn model.ReadTxn) bool { return c.store.Services.NumObjects(txn) == 1 })
	time.Sleep(20 * time.Millisecond)
	if s := only(c.store.Read()); s == nil || s.Host != "good.global" || !s.Allocated.IsValid() || c.store.Services.NumObjects(c.store.Read()) != 1 {
		t.Fatalf("service: %+v", s)
	}
	if err := c.dyn.Resource(entriesResource).Namespace("shop").Delete(ctx, "good", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("nothing of a deleted entry", func(txn model.ReadTxn) bool {
		return c.store.Services.NumObjects(txn)+c.store.Endpoints.NumObjects(txn)+c.store.Traits.NumObjects(txn) == 0
	})
}

// TestWrongPolicyOpensNothing: an edit that is wrong leaves the last good policy
// in force; its deletion does not.
func TestWrongPolicyOpensNothing(t *testing.T) {
	c := newCluster(t)
	ctx := context.Background()
	policy := func(mode string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
			"metadata": map[string]any{"namespace": "shop", "name": "default"},
			"spec":     map[string]any{"mtls": map[string]any{"mode": mode}},
		}}
	}
	client := c.dyn.Resource(peersResource).Namespace("shop")
	if _, err := client.Create(ctx, policy("STRICT"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	strict := func(txn model.ReadTxn) bool {
		for p := range c.store.Peers.All(txn) {
			return p.Mode == model.MTLSStrict
		}
		return false
	}
	c.eventually("the policy", strict)
	if _, err := client.Update(ctx, policy("STRICTER"), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	if !strict(c.store.Read()) {
		t.Error("a wrong edit took the policy away")
	}
	if err := client.Delete(ctx, "default", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("no policy", func(txn model.ReadTxn) bool { return c.store.Peers.NumObjects(txn) == 0 })
}

// TestSidecars: they become rows, a wrong edit leaves the last good one in force, and of
// two for a whole namespace the younger is told that it changes nothing.
func TestSidecars(t *testing.T) {
	c := newCluster(t)
	ctx := context.Background()
	sidecar := func(name string, created time.Time, host string) *unstructured.Unstructured {
		u := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "networking.istio.io/v1", "kind": "Sidecar",
			"metadata": map[string]any{"namespace": "shop", "name": name},
			"spec":     map[string]any{"egress": []any{map[string]any{"hosts": []any{host}}}},
		}}
		u.SetCreationTimestamp(metav1.NewTime(created))
		return u
	}
	client := c.dyn.Resource(sidecarsResource).Namespace("shop")
	early := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if _, err := client.Create(ctx, sidecar("default", early, "./*"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	own := func(txn model.ReadTxn) bool {
		for s := range c.store.Sidecars.All(txn) {
			return s.Name == "default" && slices.Equal(s.Egress, []model.EgressHost{{Namespace: ".", Host: "*"}})
		}
		return false
	}
	c.eventually("the row", own)
	if _, err := client.Update(ctx, sidecar("default", early, "everything"), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventuallySaid("default", "everything")
	if !own(c.store.Read()) {
		t.Error("a wrong edit took the Sidecar away")
	}

	if _, err := client.Create(ctx, sidecar("second", early.Add(time.Hour), "*/*"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventuallySaid("second", "changes nothing: Sidecar shop/default, which is older")
	obj, err := api.Decode([]byte(`{"kind": "Sidecar", "metadata": {"name": "third", "namespace": "shop"}, "spec": {}}`))
	if err != nil {
		t.Fatal(err)
	}
	if notes, err := c.reader.Check(obj); err != nil || len(notes) != 1 || !strings.Contains(notes[0], "Sidecar shop/default") {
		t.Errorf("of a third one is said %q, %v", notes, err)
	}

	for _, name := range []string{"default", "second"} {
		if err := client.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	c.eventually("no row", func(txn model.ReadTxn) bool { return c.store.Sidecars.NumObjects(txn) == 0 })
}

// eventuallySaid waits until the status of a Sidecar says something.
func (c *cluster) eventuallySaid(name, text string) {
	c.t.Helper()
	c.eventually("a status that says "+text, func(model.ReadTxn) bool {
		u, err := c.dyn.Resource(sidecarsResource).Namespace("shop").Get(context.Background(), name, metav1.GetOptions{})
		return err == nil && strings.Contains(fmt.Sprint(u.Object["status"]), text)
	})
}

func TestMeshConfigIsFollowed(t *testing.T) {
	c := newCluster(t)
	ctx := context.Background()
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istio"}, Data: map[string]string{
		"mesh": "trustDomain: td\naccessLogFile: /dev/stdout\nconnectTimeout: wrong", "meshNetworks": "networks: {n1: {gateways: [{address: 1.2.3.4, port: 443}]}}",
	}}
	if _, err := c.kube.CoreV1().ConfigMaps("istio-system").Create(ctx, cm, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the access log", func(txn model.ReadTxn) bool {
		return c.store.Mesh(txn, "c1").AccessLog.File == "/dev/stdout" && c.store.Networks.NumObjects(txn) == 1
	})
	if got := c.store.Mesh(c.store.Read(), "c1").TrustDomain; got != "cluster.local" {
		t.Errorf("the trust domain became %s under way; certificates keep the old one", got)
	}
	c.eventuallyTold("connectTimeout: left out")
	if got := c.reader.NotInForce()[meshKind]; got != 1 {
		t.Errorf("NotInForce counts %d mesh configurations", got)
	}
	cm = cm.DeepCopy()
	cm.Data = map[string]string{"mesh": "- not a mapping"}
	if _, err := c.kube.CoreV1().ConfigMaps("istio-system").Update(ctx, cm, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(30 * time.Millisecond)
	if c.store.Mesh(c.store.Read(), "c1").AccessLog.File != "/dev/stdout" {
		t.Error("a text that is no mapping replaced the last good one")
	}
	c.eventuallyTold("cannot be read")
	cm = cm.DeepCopy()
	cm.Data = map[string]string{"mesh": "accessLogFile: /dev/stdout\nh2UpgradePolicy: UPGRADE\nunheardOf: 1"}
	if _, err := c.kube.CoreV1().ConfigMaps("istio-system").Update(ctx, cm, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventuallyTold("h2UpgradePolicy: is not honoured yet")
	c.eventuallyTold("unheardOf: ")
	cm = cm.DeepCopy()
	cm.Data = map[string]string{"mesh": "accessLogFile: /dev/stderr"}
	if _, err := c.kube.CoreV1().ConfigMaps("istio-system").Update(ctx, cm, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the correction", func(txn model.ReadTxn) bool {
		return c.store.Mesh(txn, "c1").AccessLog.File == "/dev/stderr"
	})
	if got := c.reader.NotInForce()[meshKind]; got != 0 {
		t.Error("a mesh configuration that was corrected still counts as not in force")
	}
}

// eventuallyTold waits for an Event on the mesh's ConfigMap.
func (c *cluster) eventuallyTold(text string) {
	c.t.Helper()
	c.eventually("an Event that says "+text, func(model.ReadTxn) bool {
		list, err := c.kube.CoreV1().Events("istio-system").List(context.Background(), metav1.ListOptions{})
		return err == nil && slices.ContainsFunc(list.Items, func(e corev1.Event) bool {
			return e.InvolvedObject.Kind == "ConfigMap" && e.InvolvedObject.Name == "istio" && e.Type == corev1.EventTypeWarning && strings.Contains(e.Message, text)
		})
	})
}

func TestWebhookPatch(t *testing.T) {
	entries := []webhookEntry{{name: "a", bundle: []byte("old")}}
	if p := webhookPatch("ValidatingWebhookConfiguration", "x", entries, []byte("new"), admissionv1.Fail); p == nil {
		t.Error("another root needs a patch")
	}
	if p := webhookPatch("MutatingWebhookConfiguration", "x", []webhookEntry{{
		name:   "a",
		bundle: []byte("new"),
	}}, []byte("new"), ""); p != nil {
		t.Errorf("nothing to do, yet %s", p)
	}
	if p := webhookPatch("ValidatingWebhookConfiguration", "x", []webhookEntry{{
		name:   "a",
		bundle: []byte("new"),
	}}, []byte("new"), admissionv1.Fail); p == nil {
		t.Error("failurePolicy is to become Fail")
	}
}

// TestWebhooksTrustAndRelax: the roots are applied, validation counts once the
// service is reachable, and is let go when the last replica stops. The validator
// of all revisions is another control plane's until it calls this one.
func TestWebhooksTrustAndRelax(t *testing.T) {
	calls := func(service string) admissionv1.WebhookClientConfig {
		return admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{Namespace: "istio-system", Name: service}}
	}
	ignore := admissionv1.Ignore
	client := fake.NewClientset(
		&admissionv1.MutatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: "inject"}, Webhooks: []admissionv1.MutatingWebhook{{Name: "a.b.c"}},
		},
		&admissionv1.ValidatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: "validate"}, Webhooks: []admissionv1.ValidatingWebhook{{
				Name:          "a.b.c",
				FailurePolicy: &ignore,
				ClientConfig:  calls("istiod"),
			}},
		},
		&admissionv1.ValidatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: "shared"}, Webhooks: []admissionv1.ValidatingWebhook{{
				Name:          "a.b.c",
				FailurePolicy: &ignore,
				ClientConfig:  calls("istiod-canary"),
			}},
		})
	ctx, cancel := context.WithCancel(context.Background())
	enforce, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		err := Webhooks(ctx, client, WebhookConfig{
			Mutating: "inject", Validating: []string{"validate", "shared", "missing"}, Namespace: "istio-system", Service: "istiod",
			Roots:   func() ([]byte, <-chan struct{}) { return []byte("roots"), nil },
			Enforce: enforce, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Error(err)
		}
	}()
	named := func(name string) *admissionv1.ValidatingWebhookConfiguration {
		v, err := client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(context.Background(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	validating := func() admissionv1.ValidatingWebhook { return named("validate").Webhooks[0] }
	shared := func() admissionv1.ValidatingWebhook { return named("shared").Webhooks[0] }
	eventually := func(what string, holds func() bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("never came: " + what)
			}
		}
	}
	eventually("the roots", func() bool {
		m, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, "inject", metav1.GetOptions{})
		return err == nil && string(m.Webhooks[0].ClientConfig.CABundle) == "roots" && string(validating().ClientConfig.CABundle) == "roots"
	})
	if *validating().FailurePolicy != admissionv1.Ignore {
		t.Error("validation counts before the webhook can be reached")
	}
	close(enforce)
	eventually("enforcement", func() bool { return *validating().FailurePolicy == admissionv1.Fail })
	if w := shared(); *w.FailurePolicy != admissionv1.Ignore || len(w.ClientConfig.CABundle) > 0 {
		t.Errorf("another control plane's webhook was changed: %v", w)
	}
	taken := named("shared")
	taken.Webhooks[0].ClientConfig = calls("istiod")
	if _, err := client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Update(ctx, taken, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually("the shared webhook's trust", func() bool {
		return *shared().FailurePolicy == admissionv1.Fail && string(shared().ClientConfig.CABundle) == "roots"
	})
	cancel()
	<-done
	if *validating().FailurePolicy != admissionv1.Ignore || *shared().FailurePolicy != admissionv1.Ignore {
		t.Error("the last replica left validation in force")
	}
}
