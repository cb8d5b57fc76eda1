package apiserver

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

func service(name string) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{"app": name}}}
}

// start starts a server, and a client of it that is gone with the test.
func start(t *testing.T, token string) (*Server, kubernetes.Interface) {
	t.Helper()
	s, err := Start(service("a"))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := s.Config(token)
	if err != nil {
		t.Fatal(err)
	}
	cfg.QPS = -1
	cfg.ContentType = "application/vnd.kubernetes.protobuf"
	cfg.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, client
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never came: " + what)
		}
	}
}

// TestInformer: an informer of client-go follows the server, past an expired
// watch too.
func TestInformer(t *testing.T) {
	s, client := start(t, "")
	inf := informers.NewSharedInformerFactory(client, 0).Core().V1().Services().Informer()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		inf.RunWithContext(ctx)
	}()
	defer func() { cancel(); <-done }()
	has := func(n int) func() bool { return func() bool { return len(inf.GetStore().List()) == n } }
	eventually(t, "the first", func() bool { return inf.HasSynced() && has(1)() })

	if err := s.Apply(service("b")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an added one", has(2))
	if err := s.Delete(service("a")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a deleted one", has(1))

	s.Expire()
	if err := s.Apply(service("c")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "one after the log was forgotten", has(2))
}

// TestObjects: what clients do with single objects.
func TestObjects(t *testing.T) {
	_, client := start(t, "")
	services := client.CoreV1().Services("shop")
	made, err := services.Create(t.Context(), service("b"), metav1.CreateOptions{})
	if err != nil || made.UID == "" || made.ResourceVersion == "" {
		t.Fatalf("created %+v, %v", made, err)
	}
	if _, err := services.Create(t.Context(), service("b"), metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("created twice: %v", err)
	}
	made.Spec.ClusterIP = "10.0.0.1"
	if _, err := services.Update(t.Context(), made, metav1.UpdateOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := services.Update(t.Context(), made, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("an older one was taken: %v", err)
	}
	list, err := client.CoreV1().Services("").List(t.Context(), metav1.ListOptions{LabelSelector: "app=b"})
	if err != nil || len(list.Items) != 1 || list.Items[0].Spec.ClusterIP != "10.0.0.1" {
		t.Errorf("listed %+v, %v", list, err)
	}
	if err := services.Delete(t.Context(), "b", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := services.Get(t.Context(), "b", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("got a deleted one: %v", err)
	}
}

// TestFaults: each is seen by a client, and ends.
func TestFaults(t *testing.T) {
	s, client := start(t, "good")
	within := func(limit time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		_, err := client.CoreV1().Services("shop").Get(ctx, "a", metav1.GetOptions{})
		return err
	}
	// An answer that is to come may take its time; one that is not to come is not
	// waited for.
	get := func() error { return within(20 * time.Second) }
	if err := get(); err != nil {
		t.Fatal(err)
	}

	for name, fault := range map[string]func(){
		"refuse": s.Refuse,
		"hang":   s.Hang,
		"slow":   func() { s.Slow(3 * time.Second) },
	} {
		fault()
		if err := within(300 * time.Millisecond); err == nil {
			t.Errorf("%s: an answer came", name)
		}
		if err := s.Recover(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "an answer after "+name, func() bool { return within(2*time.Second) == nil })
	}

	s.TakeTokens("other")
	if err := get(); !apierrors.IsUnauthorized(err) {
		t.Errorf("with another token: %v", err)
	}
	s.TakeTokens()
	s.Without("services")
	if err := get(); !apierrors.IsNotFound(err) {
		t.Errorf("of a missing kind: %v", err)
	}
	if open, ever := s.Connections(); open < 1 || ever < 2 || s.Requests("get services") < 6 {
		t.Errorf("%d connections of %d, %d requests", open, ever, s.Requests("get services"))
	}
}

// TestHangHoldsWatches: a watch that stood when the server began to hang hears
// nothing, and goes on after.
func TestHangHoldsWatches(t *testing.T) {
	s, client := start(t, "")
	w, err := client.CoreV1().Services("").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	var seen atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range w.ResultChan() {
			seen.Add(1)
		}
	}()
	eventually(t, "the first", func() bool { return seen.Load() == 1 })

	s.Hang()
	if err := s.Apply(service("b")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	if n := seen.Load(); n != 1 {
		t.Fatalf("%d events from a server that hangs", n)
	}
	if err := s.Recover(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the second", func() bool { return seen.Load() == 2 })
	w.Stop()
	<-done
}
