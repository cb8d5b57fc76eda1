package clusters

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/klog/v2"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/test/leak"
	"github.com/isthmus-mesh/isthmus/test/rig/apiserver"
)

func TestMain(m *testing.M) {
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	leak.Main(m)
}

// world is a control plane's cluster, and the Set over it.
type world struct {
	t     *testing.T
	own   *fake.Clientset
	store *model.Store
	set   *Set
}

func newWorld(t *testing.T, objects ...runtime.Object) *world {
	t.Helper()
	w := &world{t: t, own: fake.NewClientset(objects...)}
	w.restart()
	return w
}

// restart begins anew with an empty Store, as another process does.
func (w *world) restart(edit ...func(*timing)) (stop func()) {
	w.t.Helper()
	var err error
	if w.store, err = model.NewStore(); err != nil {
		w.t.Fatal(err)
	}
	w.set, err = New(w.store, Config{
		Cluster: "own", Client: w.own, Namespace: "istio-system", Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range edit {
		e(&w.set.timing)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	set := w.set
	go func() {
		defer close(done)
		if err := set.Run(ctx); err != nil {
			w.t.Error(err)
		}
	}()
	stop = func() { cancel(); <-done }
	w.t.Cleanup(stop)
	return stop
}

// remote starts an API server that has the Service web of the namespace shop,
// with a pod behind it.
func (w *world) remote(objects ...runtime.Object) *apiserver.Server {
	w.t.Helper()
	s, err := apiserver.Start(append(web("10.1.0.1"), objects...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(s.Close)
	return s
}

func web(addresses ...string) []runtime.Object {
	name, port, yes := "http", int32(8080), true
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
	}
	for _, a := range addresses {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}, Conditions: discoveryv1.EndpointConditions{Ready: &yes}})
	}
	return []runtime.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}},
		slice, serviceOf("web"),
	}
}

func serviceOf(name string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.96.0.9", Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
}

// join makes or changes a Secret; a nil kubeconfig takes it away.
func (w *world) join(name string, cluster string, kubeconfig []byte) {
	w.t.Helper()
	secrets := w.own.CoreV1().Secrets("istio-system")
	_ = secrets.Delete(w.t.Context(), name, metav1.DeleteOptions{})
	if kubeconfig == nil {
		return
	}
	if _, err := secrets.Create(w.t.Context(), secretOf(name, 1, map[string][]byte{cluster: kubeconfig}), metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

// edit changes the kubeconfig of a Secret in place.
func (w *world) edit(name, cluster string, kubeconfig []byte) {
	w.t.Helper()
	_, err := w.own.CoreV1().Secrets("istio-system").Update(w.t.Context(), secretOf(name, 1, map[string][]byte{cluster: kubeconfig}), metav1.UpdateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) eventually(what string, within time.Duration, holds func() bool) {
	w.t.Helper()
	for began := time.Now(); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Since(began) > within {
			w.t.Fatalf("never came within %s: %s; states %+v", within, what, w.set.States())
		}
	}
}

// endpoints are the addresses behind shop/web in a cluster.
func (w *world) endpoints(id model.ClusterID) string {
	var out []string
	for e := range w.store.Endpoints.All(w.store.Read()) {
		if e.Cluster == id && e.Name == "web" {
			for _, each := range e.Endpoints {
				out = append(out, each.Address)
			}
		}
	}
	return strings.Join(out, " ")
}

func (w *world) services(id model.ClusterID) (n int) {
	for s := range w.store.Services.All(w.store.Read()) {
		if s.Cluster == id {
			n++
		}
	}
	return n
}

func (w *world) row(id model.ClusterID) model.Cluster {
	row, _, ok := w.store.Clusters.Get(w.store.Read(), w.store.Clusters.ByKey(string(id)))
	if !ok {
		return model.Cluster{}
	}
	return *row
}

func (w *world) state(id model.ClusterID) State {
	states := w.set.States()
	i := slices.IndexFunc(states, func(s State) bool { return s.Cluster == id })
	if i < 0 {
		return State{}
	}
	return states[i]
}

// hasEvent tells whether an Event was made on a Secret for a reason.
func (w *world) hasEvent(secret, reason string) bool {
	list, err := w.own.CoreV1().Events("istio-system").List(w.t.Context(), metav1.ListOptions{})
	return err == nil && slices.ContainsFunc(list.Items, func(e corev1.Event) bool {
		return e.InvolvedObject.Name == secret && e.Reason == reason
	})
}

const soon = 20 * time.Second

// TestJoinAndLeave: a cluster is there as soon as a Secret names it, and nothing
// of it is left when none does; others are not touched.
func TestJoinAndLeave(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.remote(), w.remote()
	w.join("s-a", "a", a.Kubeconfig(""))
	w.join("s-b", "b", b.Kubeconfig(""))
	w.eventually("both are read", soon, func() bool { return w.endpoints("a") == "10.1.0.1" && w.endpoints("b") == "10.1.0.1" })
	if got := w.state("a"); got.Status != Synced || got.Secret != "s-a" || got.Services != 1 || got.Endpoints != 1 || got.Server != a.URL() {
		t.Errorf("state %+v", got)
	}

	if err := a.Apply(web("10.1.0.1", "10.1.0.2")...); err != nil {
		t.Fatal(err)
	}
	w.eventually("a change is followed", soon, func() bool { return w.endpoints("a") == "10.1.0.1 10.1.0.2" })
	if c := w.set.Client("a"); c == nil {
		t.Error("there is no way to ask the API server of a")
	}

	w.join("s-a", "", nil)
	w.eventually("the rows of a are gone", soon, func() bool {
		return w.endpoints("a") == "" && w.services("a") == 0 && w.row("a").ID == ""
	})
	w.eventually("no connection to a is left", soon, func() bool {
		open, _ := a.Connections()
		return open == 0
	})
	if w.endpoints("b") != "10.1.0.1" || w.set.Client("a") != nil {
		t.Error("b is touched, or a is not gone")
	}

	// It comes back under the same name.
	w.join("s-a", "a", a.Kubeconfig(""))
	w.eventually("a is read again", soon, func() bool { return w.endpoints("a") == "10.1.0.1 10.1.0.2" })
}

// TestTokenReplaced: another token goes into the connections that there are.
func TestTokenReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.remote()
	a.TakeTokens("one", "two")
	w.join("s", "a", a.Kubeconfig("one"))
	w.eventually("it is read", soon, func() bool { return w.state("a").Status == Synced })
	_, before := a.Connections()
	lists := a.Requests("watch pods") + a.Requests("list pods")

	w.edit("s", "a", a.Kubeconfig("two"))
	w.eventually("the token is the new one", soon, func() bool {
		a.TakeTokens("two")
		_, err := w.set.Client("a").CoreV1().Services("shop").Get(t.Context(), "web", metav1.GetOptions{})
		return err == nil
	})
	time.Sleep(50 * time.Millisecond)
	_, after := a.Connections()
	if again := a.Requests("watch pods") + a.Requests("list pods"); after != before || again != lists {
		t.Errorf("%d connections instead of %d, pods asked for %d times instead of %d: it was read anew", after, before, again, lists)
	}
}

// TestTokenEnds: a token that is not taken any more makes the cluster stale, and
// the next token mends it at once.
func TestTokenEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.remote()
	a.TakeTokens("one")
	w.join("s", "a", a.Kubeconfig("one"))
	w.eventually("it is read", soon, func() bool { return w.state("a").Status == Synced })
	a.TakeTokens("two")
	w.eventually("it is stale, and says why", soon, func() bool {
		s := w.state("a")
		return s.Status == Refused && strings.Contains(s.Reason, "credentials") && w.row("a").Stale
	})
	if w.endpoints("a") != "10.1.0.1" {
		t.Error("its endpoints are gone")
	}
	w.eventually("an Event", soon, func() bool { return w.hasEvent("s", "Refused") })
	w.edit("s", "a", a.Kubeconfig("two"))
	w.eventually("it is followed again", soon, func() bool { return w.state("a").Status == Synced && !w.row("a").Stale })
}

// TestCredentialsReplaced: a kubeconfig of another server is read before it
// counts, and there is no moment without the rows that both have.
func TestCredentialsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old := w.remote(serviceOf("gone"))
	w.join("s", "a", old.Kubeconfig(""))
	w.eventually("it is read", soon, func() bool { return w.services("a") == 2 })

	next := w.remote(serviceOf("come"))
	next.Slow(300 * time.Millisecond)
	var missing atomic.Bool
	stop, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if w.endpoints("a") != "10.1.0.1" || w.row("a").Stale {
				missing.Store(true)
			}
		}
	}()
	w.edit("s", "a", next.Kubeconfig(""))
	names := func() string {
		var out []string
		for s := range w.store.Services.All(w.store.Read()) {
			out = append(out, s.Name)
		}
		return strings.Join(out, " ")
	}
	w.eventually("the new one counts", soon, func() bool { return names() == "come web" })
	close(stop)
	<-watched
	if missing.Load() {
		t.Error("the endpoints of web were missing for a moment")
	}
	w.eventually("no connection to the old one is left", soon, func() bool {
		open, _ := old.Connections()
		return open == 0
	})
	if err := old.Apply(serviceOf("late")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	if got := names(); got != "come web" {
		t.Errorf("the old server is still followed: %s", got)
	}
}

// TestBadEdit: a Secret that is edited into something that cannot be used harms
// nothing that works.
func TestBadEdit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.remote()
	w.join("s", "a", a.Kubeconfig(""))
	w.eventually("it is read", soon, func() bool { return w.state("a").Status == Synced })

	w.edit("s", "a", []byte("{["))
	w.eventually("it says so", soon, func() bool { return strings.Contains(w.state("a").Reason, "is refused") })
	// A server that is not there: the one before goes on.
	dead := w.remote()
	dead.Refuse()
	w.edit("s", "a", dead.Kubeconfig(""))
	w.eventually("it says that too", soon, func() bool { return strings.Contains(w.state("a").Reason, "does not work") })
	if err := a.Apply(web("10.1.0.7")...); err != nil {
		t.Fatal(err)
	}
	w.eventually("the server of before is followed", soon, func() bool { return w.endpoints("a") == "10.1.0.7" })
	if w.row("a").Stale || len(w.set.States()) != 2 {
		t.Errorf("states %+v", w.set.States())
	}
}

// TestGone: an API server that is gone leaves its rows, marked stale, within 5 s as a
// rule; when it is back, what happened meanwhile is known, within 5 s too. How long it
// took stands in the log: a machine that has other work takes longer.
func TestGone(t *testing.T) {
	for name, fault := range map[string]func(*apiserver.Server){
		"refuses": (*apiserver.Server).Refuse,
		"hangs":   (*apiserver.Server).Hang,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			a := w.remote(serviceOf("gone"))
			w.join("s", "a", a.Kubeconfig(""))
			w.eventually("it is read", soon, func() bool { return w.services("a") == 2 && w.state("a").Status == Synced })

			began := time.Now()
			fault(a)
			w.eventually("stale", soon, func() bool { return w.row("a").Stale })
			t.Logf("stale after %s", time.Since(began).Round(time.Millisecond))
			w.eventually("an Event", soon, func() bool { return w.hasEvent("s", "Unreachable") })
			s := w.state("a")
			if s.Status != Stale || s.Reason == "" || s.Since.Before(began.Add(-2*time.Second)) || s.Since.After(time.Now()) {
				t.Errorf("state %+v", s)
			}
			if err := a.Apply(web("10.1.0.1", "10.1.0.5")...); err != nil {
				t.Fatal(err)
			}
			if err := a.Delete(serviceOf("gone")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Second)
			if w.endpoints("a") != "10.1.0.1" || w.services("a") != 2 {
				t.Error("rows of a server that is gone have changed")
			}

			began = time.Now()
			if err := a.Recover(); err != nil {
				t.Fatal(err)
			}
			w.eventually("what happened meanwhile", soon, func() bool {
				return w.endpoints("a") == "10.1.0.1 10.1.0.5" && w.services("a") == 1 && !w.row("a").Stale
			})
			t.Logf("known %s after the return", time.Since(began).Round(time.Millisecond))
			if s := w.state("a"); s.Status != Synced || s.Reason != "" {
				t.Errorf("state %+v", s)
			}
		})
	}
}

// TestOddServers: what a server may do that is there.
func TestOddServers(t *testing.T) {
	t.Run("forgets what watches need", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		a := w.remote()
		w.join("s", "a", a.Kubeconfig(""))
		w.eventually("it is read", soon, func() bool { return w.state("a").Status == Synced })
		a.Expire()
		if err := a.Apply(web("10.1.0.3")...); err != nil {
			t.Fatal(err)
		}
		w.eventually("a change after that", soon, func() bool { return w.endpoints("a") == "10.1.0.3" })
	})
	t.Run("is slow", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		a := w.remote()
		a.Slow(3 * time.Second)
		w.join("s", "a", a.Kubeconfig(""))
		w.eventually("it is read", 20*time.Second, func() bool { return w.endpoints("a") == "10.1.0.1" && w.state("a").Status == Synced })
		for range 60 {
			time.Sleep(100 * time.Millisecond)
			if w.row("a").Stale {
				t.Fatal("a server that is slow counts as gone")
			}
		}
	})
	t.Run("has no EndpointSlices", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		a := w.remote()
		a.Without("endpointslices")
		w.join("s", "a", a.Kubeconfig(""))
		w.eventually("the rest is read", soon, func() bool { return w.services("a") == 1 })
		if s := w.state("a"); !strings.Contains(s.Reason, "endpointslices: 404") {
			t.Errorf("state %+v", s)
		}
	})
}

// TestWaitRead: the start of the control plane waits for a server that answers,
// and for none that does not.
func TestWaitRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	live, dead := w.remote(), w.remote()
	live.Slow(300 * time.Millisecond)
	dead.Refuse()
	w.join("s-live", "live", live.Kubeconfig(""))
	w.join("s-dead", "dead", dead.Kubeconfig(""))
	w.restart(func(tm *timing) { tm.start = time.Hour })
	began := time.Now()
	w.set.WaitRead(t.Context())
	if took := time.Since(began); took > time.Minute || w.endpoints("live") == "" || w.row("dead").ID == "" {
		t.Errorf("waited for %s; endpoints %q, row %+v", took, w.endpoints("live"), w.row("dead"))
	}

	hung := w.remote()
	hung.Slow(time.Minute)
	w.join("s-hung", "hung", hung.Kubeconfig(""))
	w.restart(func(tm *timing) { tm.start = time.Second })
	began = time.Now()
	w.set.WaitRead(t.Context())
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("waited for %s", took)
	}
}

// TestRefusedIsTold: by the states and by an Event on the Secret.
func TestRefusedIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, secretOf("s", 1, map[string][]byte{"own": kubeconfig(t, nil)}))
	w.eventually("an Event", soon, func() bool { return w.hasEvent("s", "Refused") })
	states := w.set.States()
	if !strings.Contains(states[1].Reason, "without a Secret") {
		t.Errorf("reason %q", states[1].Reason)
	}
	if len(states) != 2 || states[1].Status != Refused || states[1].Secret != "s" {
		t.Errorf("states %+v", states)
	}
}

// TestLeavesAServerThatHoldsOn: nobody waits for an answer that does not come when
// the cluster is taken out.
func TestLeavesAServerThatHoldsOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.remote()
	a.Handle("GET /apis", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	w.join("s", "a", a.Kubeconfig(""))
	w.eventually("it is asked what it has", soon, func() bool { return a.Requests("get /apis") > 0 })
	w.join("s", "", nil)
	w.eventually("nothing is left of it", soon, func() bool { return w.row("a").ID == "" })
}
