//go:build lab

// The tests of this file change a real cluster: the current context of
// $KUBECONFIG, which must be free of any installation and have the images
// isthmus.local/{pilot,proxyv2}:dev. Run them with -p 1 -tags lab.
package apply_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/isthmus-mesh/isthmus/charts"
	"github.com/isthmus-mesh/isthmus/install/apply"
	"github.com/isthmus-mesh/isthmus/install/render"
	"github.com/isthmus-mesh/isthmus/install/values"
	"github.com/isthmus-mesh/isthmus/install/verify"
)

type lab struct {
	*testing.T
	rest   *rest.Config
	client *apply.Client
}

func newLab(t *testing.T) lab {
	t.Helper()
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(), nil).ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	cfg.QPS = -1
	l := lab{T: t, rest: cfg}
	l.client = l.clientFor(cfg)
	t.Cleanup(l.purge)
	return l
}

func (l lab) clientFor(cfg *rest.Config) *apply.Client {
	l.Helper()
	c, err := apply.NewClient(cfg)
	if err != nil {
		l.Fatal(err)
	}
	return c
}

func (l lab) desired(sets ...string) apply.Desired {
	l.Helper()
	config, err := values.Resolve(values.Input{Sets: sets, Hub: "isthmus.local", Tag: "dev"})
	if err != nil {
		l.Fatal(err)
	}
	objs, err := render.Render(config, charts.FS)
	if err != nil {
		l.Fatal(err)
	}
	return apply.Desired{Revision: config.Revision, Namespace: config.Namespace, Version: "test", Objects: objs}
}

// install brings a profile about and returns the plan that did it.
func (l lab) install(sets ...string) *apply.Plan {
	l.Helper()
	plan, err := l.client.Plan(l.Context(), l.desired(sets...))
	if err != nil {
		l.Fatal(err)
	}
	start := time.Now()
	if err := l.client.Run(l.Context(), plan, apply.Options{Timeout: 2 * time.Minute}); err != nil {
		l.Fatal(err)
	}
	l.Logf("install %v: %d changes, %.1f s", sets, plan.Changes(), time.Since(start).Seconds())
	return plan
}

func (l lab) purge() {
	ctx := context.Background()
	invs, err := l.client.Inventories(ctx)
	if err != nil || len(invs) == 0 {
		return
	}
	removal, err := l.client.PlanRemoval(ctx, "", "", true)
	if err != nil {
		l.Error(err)
		return
	}
	start := time.Now()
	if err := l.client.Remove(ctx, removal, apply.Options{Timeout: 2 * time.Minute}); err != nil {
		l.Error(err)
	}
	l.Logf("purge: %.1f s", time.Since(start).Seconds())
}

// objects lists all objects of the cluster but those that come and go by
// themselves.
func (l lab) objects() []string {
	l.Helper()
	disco, err := discovery.NewDiscoveryClientForConfig(l.rest)
	if err != nil {
		l.Fatal(err)
	}
	lists, err := disco.ServerPreferredResources()
	if err != nil {
		l.Fatal(err)
	}
	dyn, err := dynamic.NewForConfig(l.rest)
	if err != nil {
		l.Fatal(err)
	}
	var out []string
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			l.Fatal(err)
		}
		for _, r := range list.APIResources {
			if !slices.Contains(r.Verbs, "list") || passing(r.Kind) {
				continue
			}
			items, err := dyn.Resource(gv.WithResource(r.Name)).List(l.Context(), metav1.ListOptions{})
			if err != nil {
				continue // a kind that is going away
			}
			for _, u := range items.Items {
				out = append(out, strings.Join([]string{u.GetKind(), u.GetNamespace(), u.GetName()}, "/"))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func passing(kind string) bool {
	return slices.Contains([]string{"Event", "Lease", "APIService", "ComponentStatus", "PodMetrics", "NodeMetrics"}, kind)
}

// healthy fails the test unless the cluster is as the last install left it, and
// has nothing of ours besides.
func (l lab) healthy() {
	l.Helper()
	invs, err := l.client.Inventories(l.Context())
	if err != nil {
		l.Fatal(err)
	}
	known := map[string]bool{}
	var objs []render.Object
	for _, inv := range invs {
		for _, e := range inv.Entries {
			known[e.ID()] = true
			objs = append(objs, render.Object{Unstructured: e.Intent})
		}
	}
	results, err := verify.Objects(l.Context(), l.client, objs)
	if err != nil {
		l.Fatal(err)
	}
	for _, r := range results {
		if len(r.Problems) > 0 {
			l.Errorf("%s: %v", r.ID, r.Problems)
		}
	}
	dyn, err := dynamic.NewForConfig(l.rest)
	if err != nil {
		l.Fatal(err)
	}
	seen := map[schema.GroupVersionResource]bool{}
	for _, o := range l.desired("profile=demo", "addonComponents.istiocoredns.enabled=true", "values.global.multiCluster.enabled=true").Objects {
		gvr := apply.ResourceOf(o.GroupVersionKind())
		if seen[gvr] {
			continue
		}
		seen[gvr] = true
		list, err := dyn.Resource(gvr).List(l.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/managed-by=isthmus"})
		if err != nil {
			l.Fatal(err)
		}
		for _, u := range list.Items {
			if id := (render.Object{Unstructured: &u}).ID(); u.GetDeletionTimestamp() == nil && !known[id] {
				l.Errorf("orphan: %s", id)
			}
		}
	}
}

// TestProfilesInTurn: every change of profile leaves what the new one asks for
// and nothing else; removing all gives the cluster back as it was.
func TestProfilesInTurn(t *testing.T) {
	l := newLab(t)
	before := l.objects()
	for _, profile := range []string{"default", "minimal", "demo", "default"} {
		l.install("profile=" + profile)
		l.healthy()
	}
	if plan := l.install("profile=default"); plan.Changes() > 0 {
		for _, s := range plan.Steps {
			if s.Action != apply.Keep {
				t.Errorf("a second install would %s %s: %v", s.Action, s.Entry.ID(), s.Changes)
			}
		}
	}
	l.purge()
	if diff := cmp.Diff(before, l.objects()); diff != "" {
		t.Errorf("after removal the cluster is not as before (-before +after):\n%s", diff)
	}
}

// TestDrift: what somebody changed by hand is found, named and put right; what
// others own stays.
func TestDrift(t *testing.T) {
	l := newLab(t)
	l.install("profile=minimal")
	kube, err := kubernetes.NewForConfig(l.rest)
	if err != nil {
		t.Fatal(err)
	}
	services := kube.CoreV1().Services("istio-system")
	if err := services.Delete(t.Context(), "istiod", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	cm, err := kube.CoreV1().ConfigMaps("istio-system").Get(t.Context(), "istio", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cm.Data["mesh"] = "trustDomain: other"
	cm.Labels["mine"] = "stays"
	if _, err := kube.CoreV1().ConfigMaps("istio-system").Update(t.Context(), cm, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	plan := l.install("profile=minimal")
	if c, ch := plan.Count(apply.Create), plan.Count(apply.Change); c != 1 || ch != 1 {
		t.Errorf("%d to create and %d to change, want one each", c, ch)
	}
	l.healthy()
	cm, err = kube.CoreV1().ConfigMaps("istio-system").Get(t.Context(), "istio", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if cm.Labels["mine"] != "stays" || strings.Contains(cm.Data["mesh"], "other") {
		t.Errorf("after repair: labels %v, mesh %q", cm.Labels, cm.Data["mesh"])
	}
}

// dyingTransport cuts a client off after so many writes, as a kill would.
type dyingTransport struct {
	http.RoundTripper
	left *atomic.Int64
}

var errKilled = errors.New("killed")

func (d dyingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet && d.left.Add(-1) < 0 {
		return nil, errKilled
	}
	return d.RoundTripper.RoundTrip(r)
}

// TestKilledAnywhere: an install that is cut off after any number of writes is
// completed by the next, and the cluster looks as if it had never been.
func TestKilledAnywhere(t *testing.T) {
	l := newLab(t)
	l.install("profile=default")
	want := l.state()
	l.purge()
	for _, writes := range []int64{1, 2, 5, 11, 16, 20, 25, 31, 36, 40} {
		t.Run(fmt.Sprint(writes), func(t *testing.T) {
			l := lab{T: t, rest: l.rest, client: l.client}
			left := &atomic.Int64{}
			left.Store(writes)
			cfg := rest.CopyConfig(l.rest)
			cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper { return dyingTransport{rt, left} })
			dying := l.clientFor(cfg)
			plan, err := dying.Plan(t.Context(), l.desired("profile=default"))
			if err == nil {
				err = dying.Run(t.Context(), plan, apply.Options{Timeout: time.Minute})
			}
			t.Logf("cut off after %d writes: %v", writes, err)
			l.install("profile=default")
			if diff := cmp.Diff(want, l.state()); diff != "" {
				t.Errorf("not the same as after one install (-want +got):\n%s", diff)
			}
			l.purge()
		})
	}
}

// state is the live form of every object of the default profile, without what
// differs between any two installs.
func (l lab) state() map[string]map[string]any {
	l.Helper()
	out := map[string]map[string]any{}
	for _, o := range l.desired("profile=default").Objects {
		u, err := l.client.Get(l.Context(), o.GroupVersionKind(), o.GetNamespace(), o.GetName())
		if err != nil {
			l.Fatal(err)
		}
		if u == nil {
			out[o.ID()] = nil
			continue
		}
		delete(u.Object, "status")
		for _, f := range []string{"uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"} {
			unstructured.RemoveNestedField(u.Object, "metadata", f)
		}
		annotations := u.GetAnnotations()
		delete(annotations, "deployment.kubernetes.io/revision")
		u.SetAnnotations(annotations)
		scrub(u.Object)
		out[o.ID()] = u.Object
	}
	return out
}

// scrub removes addresses, node ports and certificates, wherever they are.
func scrub(v any) {
	switch x := v.(type) {
	case map[string]any:
		for _, k := range []string{"clusterIP", "clusterIPs", "nodePort", "caBundle", "healthCheckNodePort"} {
			delete(x, k)
		}
		for _, c := range x {
			scrub(c)
		}
	case []any:
		for _, c := range x {
			scrub(c)
		}
	}
}

// TestTooLittleAccess: what a user may not do is listed before anything is
// changed.
func TestTooLittleAccess(t *testing.T) {
	l := newLab(t)
	kube, err := kubernetes.NewForConfig(l.rest)
	if err != nil {
		t.Fatal(err)
	}
	const name = "isthmus-test-reader"
	_, err = kube.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"},
		Subjects:   []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: name}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := kube.RbacV1().ClusterRoleBindings().Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	}()
	cfg := rest.CopyConfig(l.rest)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: name}
	err = l.clientFor(cfg).CheckAccess(t.Context(), l.desired("profile=minimal"))
	var access *apply.AccessError
	if !errors.As(err, &access) {
		t.Fatalf("a reader may install: %v", err)
	}
	for _, want := range []string{
		"create namespaces (whole cluster)", "patch deployments.apps in namespace istio-system",
		"create customresourcedefinitions.apiextensions.k8s.io (whole cluster)",
	} {
		if !slices.Contains(access.Missing, want) {
			t.Errorf("%q is not listed: %v", want, access.Missing)
		}
	}
	if slices.Contains(access.Missing, "get services in namespace istio-system") {
		t.Error("what a reader may do is listed as missing")
	}
}
