package kube

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	fakediscovery "k8s.io/client-go/discovery/fake"
	fakedynamic "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	fakemetadata "k8s.io/client-go/metadata/fake"

	"github.com/isthmus-mesh/isthmus/api"
)

var (
	proxyConfigResource = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "proxyconfigs"}
	pluginResource      = schema.GroupVersionResource{Group: "extensions.istio.io", Version: "v1alpha1", Resource: "wasmplugins"}
	routeResource       = schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "httproutes"}
)

// lines is a log whose lines can be read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// takenOver is a cluster that held objects of kinds that are not honoured before
// this control plane came.
type takenOver struct {
	t           *testing.T
	dyn         *fakedynamic.FakeDynamicClient
	meta        *fakemetadata.FakeMetadataClient
	log         *lines
	notHonoured *NotHonoured
}

func newTakenOver(t *testing.T, objects ...*unstructured.Unstructured) *takenOver {
	c := &takenOver{t: t, log: &lines{}}
	k := fake.NewClientset()
	k.Discovery().(*fakediscovery.FakeDiscovery).Resources = []*metav1.APIResourceList{
		{GroupVersion: "networking.istio.io/v1", APIResources: []metav1.APIResource{
			{Name: "serviceentries"}, {Name: "proxyconfigs"}, {Name: "proxyconfigs/status"},
		}},
		{GroupVersion: "extensions.istio.io/v1alpha1", APIResources: []metav1.APIResource{
			{Name: "wasmplugins"}, {Name: "wasmplugins/status"},
		}},
		{GroupVersion: "gateway.networking.k8s.io/v1", APIResources: []metav1.APIResource{
			{Name: "httproutes"}, {Name: "httproutes/status"},
		}},
	}
	var whole, heads []runtime.Object
	for _, u := range objects {
		whole = append(whole, u)
		heads = append(heads, head(u))
	}
	c.dyn = fakedynamic.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
		proxyConfigResource: "ProxyConfigList", pluginResource: "WasmPluginList", routeResource: "HTTPRouteList",
	}, whole...)
	scheme := fakemetadata.NewTestScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c.meta = fakemetadata.NewSimpleMetadataClient(scheme, heads...)

	n := NewNotHonoured(Clients{Kube: k, Dynamic: c.dyn, Metadata: c.meta}, "default", slog.New(slog.NewTextHandler(c.log, nil)))
	n.lookEvery, n.tellEvery, n.lines = 10*time.Millisecond, 20*time.Millisecond, 3
	n.status.pace = nil
	c.notHonoured = n
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := n.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() { n.WriteStatus(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return c
}

// foreign is an object of a kind that is not honoured.
func foreign(apiVersion, kind, namespace, name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": apiVersion, "kind": kind,
		"metadata": map[string]any{"namespace": namespace, "name": name, "uid": name, "generation": int64(1)},
		"spec":     map[string]any{},
	}}
}

// head is the metadata of an object.
func head(u *unstructured.Unstructured) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{
		TypeMeta: metav1.TypeMeta{APIVersion: u.GetAPIVersion(), Kind: u.GetKind()},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: u.GetNamespace(), Name: u.GetName(), UID: u.GetUID(), Generation: u.GetGeneration(), Labels: u.GetLabels(),
		},
	}
}

func (c *takenOver) eventually(what string, holds func() bool) {
	c.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			c.t.Fatalf("never came: %s; counted %v; the log:\n%s", what, c.notHonoured.Count(), c.log)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (c *takenOver) object(r schema.GroupVersionResource, namespace, name string) *unstructured.Unstructured {
	c.t.Helper()
	u, err := c.dyn.Resource(r).Namespace(namespace).Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return u
}

// statusWrites counts the writes of status so far.
func (c *takenOver) statusWrites() int {
	n := 0
	for _, a := range c.dyn.Actions() {
		if a.GetVerb() == "patch" {
			n++
		}
	}
	return n
}

// TestNotHonouredIsTold: an object of a kind that is not honoured has a
// condition that says so, beside those of others, a line in the log, and counts.
// What may be another controller's is logged and counted only.
func TestNotHonouredIsTold(t *testing.T) {
	watched := foreign("networking.istio.io/v1", "ProxyConfig", "shop", "split")
	watched.Object["status"] = map[string]any{"conditions": []any{map[string]any{"type": "Healthy", "status": "True"}}}
	theirs := foreign("networking.istio.io/v1", "ProxyConfig", "shop", "canary")
	theirs.SetLabels(map[string]string{"istio.io/rev": "canary"})
	c := newTakenOver(t, watched, theirs,
		foreign("extensions.istio.io/v1alpha1", "WasmPlugin", "shop", "deny-all"),
		foreign("gateway.networking.k8s.io/v1", "HTTPRoute", "shop", "route"))

	c.eventually("the conditions", func() bool {
		deny, split := readCondition(c.object(pluginResource, "shop", "deny-all")), readCondition(c.object(proxyConfigResource, "shop", "split"))
		return deny.status == "False" && strings.Contains(deny.message, "nobody is refused by it") && deny.generation == 1 &&
			split.status == "False" && strings.Contains(split.message, "changes nothing")
	})
	conditions, _, _ := unstructured.NestedSlice(c.object(proxyConfigResource, "shop", "split").Object, "status", "conditions")
	if text := fmt.Sprint(conditions); len(conditions) != 2 || !strings.Contains(text, "Healthy") || !strings.Contains(text, "reason:NotHonoured") {
		t.Errorf("conditions: %v", conditions)
	}
	c.eventually("the lines", func() bool { return strings.Count(c.log.String(), "\n") >= 3 })
	for _, want := range []string{
		`level=WARN msg="configuration object is not honoured" kind=WasmPlugin group=extensions.istio.io namespace=shop name=deny-all why=`,
		`level=WARN msg="configuration object is not honoured" kind=ProxyConfig group=networking.istio.io namespace=shop name=split why=`,
		`level=INFO msg="configuration object is not honoured" kind=HTTPRoute group=gateway.networking.k8s.io namespace=shop name=route why=`,
	} {
		if strings.Count(c.log.String(), want) != 1 {
			t.Errorf("the log\n%s\nwant %s", c.log, want)
		}
	}
	if got := fmt.Sprint(c.notHonoured.Count()); got != "map[WasmPlugin.extensions.istio.io:1 HTTPRoute.gateway.networking.k8s.io:1 ProxyConfig.networking.istio.io:1]" {
		t.Errorf("counted %s", got)
	}
	for name, u := range map[string]*unstructured.Unstructured{
		"another controller's": c.object(routeResource, "shop", "route"),
		"another revision's":   c.object(proxyConfigResource, "shop", "canary"),
	} {
		if u.Object["status"] != nil {
			t.Errorf("%s has a status: %v", name, u.Object["status"])
		}
	}
}

// TestNotHonouredIsToldOnce: a change of metadata or status is none; an edit of
// the object is told again; one that is gone counts no more.
func TestNotHonouredIsToldOnce(t *testing.T) {
	policy := foreign("extensions.istio.io/v1alpha1", "WasmPlugin", "shop", "deny-all")
	c := newTakenOver(t, policy)
	c.eventually("the first telling", func() bool { return c.statusWrites() == 1 && strings.Contains(c.log.String(), "deny-all") })

	// The fake metadata client has a store of its own: events are made by hand.
	ctx, objects := context.Background(), c.meta.Resource(pluginResource).Namespace("shop")
	update := func(change func(*metav1.PartialObjectMetadata)) {
		t.Helper()
		m := head(policy)
		change(m)
		if err := c.meta.Tracker().Update(pluginResource, m, "shop"); err != nil {
			t.Fatal(err)
		}
	}
	update(func(m *metav1.PartialObjectMetadata) { m.ResourceVersion = "7" })
	time.Sleep(100 * time.Millisecond)
	if n, writes := strings.Count(c.log.String(), "\n"), c.statusWrites(); n != 1 || writes != 1 {
		t.Errorf("a change of nothing: %d lines, %d writes", n, writes)
	}

	edited := c.object(pluginResource, "shop", "deny-all")
	edited.SetGeneration(2)
	if _, err := c.dyn.Resource(pluginResource).Namespace("shop").Update(ctx, edited, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	update(func(m *metav1.PartialObjectMetadata) { m.Generation = 2 })
	c.eventually("the second telling", func() bool {
		return readCondition(c.object(pluginResource, "shop", "deny-all")).generation == 2 && strings.Count(c.log.String(), "\n") == 2
	})

	if err := objects.Delete(ctx, "deny-all", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("none", func() bool { return len(c.notHonoured.Count()) == 0 })
}

// TestConditionThatStandsIsNotWritten: a new leader finds what the last one
// wrote.
func TestConditionThatStandsIsNotWritten(t *testing.T) {
	policy := foreign("extensions.istio.io/v1alpha1", "WasmPlugin", "shop", "deny-all")
	var why string
	for _, k := range api.NotHonouredKinds() {
		if k.Kind == policy.GetKind() {
			why = k.Why()
		}
	}
	policy.Object["status"] = map[string]any{"conditions": []any{map[string]any{
		"type": api.ConditionReconciled, "status": "False", "message": why, "observedGeneration": "1",
	}}}
	c := newTakenOver(t, policy)
	c.eventually("a look at it", func() bool { return len(c.dyn.Actions()) > 0 })
	c.eventually("the line", func() bool { return strings.Contains(c.log.String(), "deny-all") })
	time.Sleep(50 * time.Millisecond)
	if got := c.statusWrites(); got != 0 {
		t.Errorf("written %d times", got)
	}
}

// TestManyAreCounted: of a cluster full of such objects, the log names a few,
// security first, and counts the others.
func TestManyAreCounted(t *testing.T) {
	var objects []*unstructured.Unstructured
	for i := range 50 {
		objects = append(objects, foreign("networking.istio.io/v1", "ProxyConfig", "shop", fmt.Sprintf("v%02d", i)))
	}
	objects = append(objects, foreign("extensions.istio.io/v1alpha1", "WasmPlugin", "shop", "deny-all"))
	c := newTakenOver(t)
	served := map[string]api.ServedKind{}
	for _, k := range api.NotHonouredKinds() {
		served[k.Kind] = api.ServedKind{NotHonouredKind: k, Version: map[bool]string{true: pluginResource.Version, false: "v1"}[k.Kind == "WasmPlugin"]}
	}
	c.notHonoured.mu.Lock() // one round takes them all
	for _, u := range objects {
		k := served[u.GetKind()]
		c.notHonoured.changed[refOf(k, head(u))] = k
	}
	c.notHonoured.mu.Unlock()
	c.notHonoured.some.Send()
	c.eventually("the count", func() bool { return strings.Contains(c.log.String(), "objects=48") })
	if got := strings.Count(c.log.String(), "\n"); got != 4 || !strings.Contains(strings.Split(c.log.String(), "\n")[0], "deny-all") {
		t.Errorf("%d lines:\n%s", got, c.log)
	}
}

// TestKindsComeAndGo: a CRD that comes later is found, and its objects go with
// it.
func TestKindsComeAndGo(t *testing.T) {
	c := newTakenOver(t, foreign("extensions.istio.io/v1alpha1", "WasmPlugin", "shop", "deny-all"))
	c.eventually("the object", func() bool { return len(c.notHonoured.Count()) == 1 })
	gk := schema.GroupKind{Group: "extensions.istio.io", Kind: "WasmPlugin"}
	c.notHonoured.lost(gk)
	c.eventually("the kind again", func() bool { return c.notHonoured.Count()[gk] == 1 })
}
