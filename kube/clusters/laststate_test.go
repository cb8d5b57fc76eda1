package clusters

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/model"
)

// lead lets the Set of now lead until stop.
func (w *world) lead() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	set := w.set
	go func() {
		defer close(done)
		set.Lead(ctx)
	}()
	stop = func() { cancel(); <-done }
	w.t.Cleanup(stop)
	return stop
}

func (w *world) savedStates() []corev1.ConfigMap {
	w.t.Helper()
	list, err := w.own.CoreV1().ConfigMaps("istio-system").List(w.t.Context(), metav1.ListOptions{LabelSelector: labelState})
	if err != nil {
		w.t.Fatal(err)
	}
	return list.Items
}

// TestLastState: what was known of a cluster when its API server went is known to
// a control plane that starts while it is gone; and it is kept no longer than
// that.
func TestLastState(t *testing.T) {
	t.Parallel()
	w := &world{t: t, own: newWorld(t).own}
	stopRun := w.restart()
	stopLead := w.lead()
	a := w.remote()
	w.join("s", "a", a.Kubeconfig(""))
	w.eventually("it is read", soon, func() bool { return w.state("a").Status == Synced })
	if n := len(w.savedStates()); n != 0 {
		t.Fatalf("%d ConfigMaps of a cluster that is there", n)
	}
	a.Refuse()
	w.eventually("its state is saved", soon, func() bool { return len(w.savedStates()) == 1 })
	since := w.row("a").Since
	stopLead()
	stopRun()

	w.restart(func(tm *timing) { tm.start = time.Hour })
	began := time.Now()
	w.set.WaitRead(t.Context())
	if took := time.Since(began); took > time.Minute {
		t.Errorf("the start waited for %s", took)
	}
	row := w.row("a")
	if w.endpoints("a") != "10.1.0.1" || !row.Stale || !row.Synced || !row.Since.Equal(since) {
		t.Errorf("endpoints %q, row %+v", w.endpoints("a"), row)
	}
	if s := w.state("a"); s.Status != Stale || !s.Since.Equal(since) || s.Endpoints != 1 {
		t.Errorf("state %+v", s)
	}

	// The one that leads now has not read the cluster: it lets the state be.
	w.lead()
	time.Sleep(100 * time.Millisecond)
	if n := len(w.savedStates()); n != 1 {
		t.Errorf("%d ConfigMaps", n)
	}

	if err := a.Apply(web("10.1.0.9")...); err != nil {
		t.Fatal(err)
	}
	if err := a.Recover(); err != nil {
		t.Fatal(err)
	}
	w.eventually("it is followed", soon, func() bool { return w.endpoints("a") == "10.1.0.9" && !w.row("a").Stale })
	w.eventually("the state is deleted", stateRetry+soon, func() bool { return len(w.savedStates()) == 0 })
}

// TestLastStateOfOneTakenOut: nothing is left of it.
func TestLastStateOfOneTakenOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.lead()
	a := w.remote()
	w.join("s", "a", a.Kubeconfig(""))
	w.eventually("it is read", soon, func() bool { return w.state("a").Status == Synced })
	a.Refuse()
	w.eventually("its state is saved", soon, func() bool { return len(w.savedStates()) == 1 })
	w.join("s", "", nil)
	w.eventually("the state is deleted", stateRetry+soon, func() bool { return len(w.savedStates()) == 0 })
}

func TestPackState(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.remote()
	w.join("s", "a", a.Kubeconfig(""))
	w.eventually("it is read", soon, func() bool { return w.state("a").Status == Synced })
	pack := func() []corev1.ConfigMap {
		maps, err := packState(w.store, "a", "istio-system", 40)
		if err != nil || len(maps) < 3 {
			t.Fatalf("%d parts, %v", len(maps), err)
		}
		var out []corev1.ConfigMap
		for _, m := range maps {
			out = append(out, *m)
		}
		return out
	}
	parts := pack()
	slices.Reverse(parts)
	endpoints := func(s *model.Store) (n int) {
		for e := range s.Endpoints.All(s.Read()) {
			n += len(e.Endpoints)
		}
		return n
	}
	if back, err := unpackState(parts, "a"); err != nil || endpoints(back) != 1 {
		t.Errorf("parts in another order: %v", err)
	}

	if err := a.Apply(web("10.1.0.1", "10.1.0.2")...); err != nil {
		t.Fatal(err)
	}
	w.eventually("a change", soon, func() bool { return w.endpoints("a") == "10.1.0.1 10.1.0.2" })
	if back, err := unpackState(append(pack(), parts[1:]...), "a"); err != nil || endpoints(back) != 2 {
		t.Errorf("beside half of another state: %v", err)
	}
	old, newer := slices.Clone(parts), pack()
	for i := range newer {
		newer[i].CreationTimestamp = metav1.Unix(1, 0)
	}
	for range 20 { // a map of two has no order
		if back, err := unpackState(slices.Concat(old, newer), "a"); err != nil || endpoints(back) != 2 {
			t.Fatalf("beside an older state that is whole: %v", err)
		}
	}
	if _, err := unpackState(parts[1:], "a"); err == nil || !strings.Contains(err.Error(), "not all of it") {
		t.Errorf("a part is missing: %v", err)
	}
	if _, err := unpackState(parts, "b"); err == nil {
		t.Error("the state of another cluster is taken")
	}
	parts[0].BinaryData[dataState] = []byte("x")
	if _, err := unpackState(parts, "a"); err == nil {
		t.Error("a changed part is taken")
	}
}

// TestLastStateOfNoUse: it is ignored, and holds nothing back.
func TestLastStateOfNoUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "istio-system", Name: "istio-last-state-x-0", Labels: map[string]string{labelState: "a"},
		},
		BinaryData: map[string][]byte{dataState: []byte("x")},
	})
	a := w.remote()
	a.Refuse()
	w.join("s", "a", a.Kubeconfig(""))
	w.eventually("it is known to be gone", soon, func() bool { return w.row("a").Stale })
	if err := a.Recover(); err != nil {
		t.Fatal(err)
	}
	w.eventually("it is read", soon, func() bool { return w.endpoints("a") == "10.1.0.1" })
}
