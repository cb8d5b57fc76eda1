package discovery

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/isthmus-mesh/isthmus/kube"
	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds/resources"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// monitor is the monitoring port over a fake API server, which knows the users
// by their tokens "reader" (may get /debug/syncz) and "nobody" (may nothing).
type monitor struct {
	t         *testing.T
	handler   http.Handler
	questions atomic.Int64
	hold      chan struct{} // the API server answers when it is closed
}

func newMonitor(t *testing.T) *monitor {
	t.Helper()
	m := &monitor{t: t, hold: make(chan struct{})}
	close(m.hold)
	client := fake.NewClientset()
	client.PrependReactor("create", "tokenreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		m.questions.Add(1)
		<-m.hold
		r := a.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview).DeepCopy()
		known := slices.Contains([]string{"reader", "nobody"}, r.Spec.Token)
		r.Status = authenticationv1.TokenReviewStatus{Authenticated: known, User: authenticationv1.UserInfo{Username: r.Spec.Token}}
		return true, r, nil
	})
	client.PrependReactor("create", "subjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		m.questions.Add(1)
		r := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview).DeepCopy()
		at := r.Spec.NonResourceAttributes
		r.Status.Allowed = r.Spec.User == "reader" && at != nil && at.Path == "/debug/syncz" && at.Verb == "get"
		return true, r, nil
	})

	store, err := model.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	source, err := resources.New(store, resources.Config{Cluster: "c1"})
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{
		cfg: Config{Clients: kube.Clients{Kube: client}},
		log: slog.New(slog.DiscardHandler), registry: prometheus.NewRegistry(),
		store: store, source: source, xds: serve.New(source, nil, serve.Config{}),
	}
	m.handler = s.monitoring()
	return m
}

func (m *monitor) get(path, from, token string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.RemoteAddr = from
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	m.handler.ServeHTTP(w, r)
	return w
}

// All pages were open to every pod: the mesh's configuration, its proxies, and
// the memory of the process, which holds its keys.
func TestDebugPagesAreNotForEverybody(t *testing.T) {
	m := newMonitor(t)
	const stranger = "10.9.9.9:1234"
	for _, path := range []string{
		"/debug/configz", "/debug/endpointz", "/debug/syncz", "/debug/clusterz", "/debug/networkz", "/debug/viewz",
		"/debug/pprof/", "/debug/pprof/heap?debug=1", "/debug/pprof/goroutine?debug=2", "/debug/pprof/cmdline",
		"/debug/pprof/profile?seconds=1", "/debug/pprof/trace?seconds=1", "/debug/pprof/symbol", "/debug/anything",
	} {
		if w := m.get(path, stranger, ""); w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s without a token: %d %.80q", path, w.Code, w.Body)
		}
	}
	if n := m.questions.Load(); n > 0 {
		t.Errorf("the API server was asked %d times about nothing", n)
	}
	for _, path := range []string{"/metrics", "/version"} {
		if w := m.get(path, stranger, ""); w.Code != http.StatusOK {
			t.Errorf("%s: %d", path, w.Code)
		}
	}

	for _, tt := range []struct {
		path, from, token string
		want              int
	}{
		{"/debug/syncz", "127.0.0.1:1234", "", http.StatusOK},
		{"/debug/syncz", "[::1]:1234", "", http.StatusOK},
		{"/debug/syncz", "[::ffff:127.0.0.1]:1234", "", http.StatusOK},
		{"/debug/syncz", stranger, "reader", http.StatusOK},
		{"/debug/configz", stranger, "reader", http.StatusForbidden},
		{"/debug/syncz", stranger, "nobody", http.StatusForbidden},
		{"/debug/syncz", stranger, "made-up", http.StatusUnauthorized},
	} {
		if w := m.get(tt.path, tt.from, tt.token); w.Code != tt.want {
			t.Errorf("%s from %s with token %q: %d %.100q, want %d", tt.path, tt.from, tt.token, w.Code, w.Body, tt.want)
		}
	}

	// Neither a header that says where the request comes from, nor another
	// spelling of the path.
	r := httptest.NewRequest(http.MethodGet, "/metrics/../debug/syncz", nil)
	r.RemoteAddr = stranger
	r.Header.Set("X-Forwarded-For", "127.0.0.1")
	w := httptest.NewRecorder()
	m.handler.ServeHTTP(w, r)
	if w.Code == http.StatusOK {
		t.Errorf("a way around: %d", w.Code)
	}
}

func TestDebugDecisionsAreRemembered(t *testing.T) {
	m := newMonitor(t)
	for range 20 {
		m.get("/debug/syncz", "10.9.9.9:1", "reader")
		m.get("/debug/syncz", "10.9.9.9:1", "made-up")
	}
	if n := m.questions.Load(); n != 3 {
		t.Errorf("the API server was asked %d questions, want 3", n)
	}
	a := newDebugAccess(nil, nil)
	for i := range 3 * maxDecisions {
		a.remember(decisionKey{path: fmt.Sprint(i)}, decision{})
	}
	if n := len(a.decisions); n > maxDecisions {
		t.Errorf("%d decisions are remembered", n)
	}
}

func TestDebugTokensAreAskedAboutFewAtATime(t *testing.T) {
	m := newMonitor(t)
	m.hold = make(chan struct{})
	codes := make(chan int, 50)
	for i := range cap(codes) {
		go func() { codes <- m.get("/debug/syncz", "10.9.9.9:1", fmt.Sprint("made-up-", i)).Code }()
	}
	for range cap(codes) - maxQuestions {
		if code := <-codes; code != http.StatusServiceUnavailable {
			t.Errorf("one of many was answered %d", code)
		}
	}
	close(m.hold)
	for range maxQuestions {
		if code := <-codes; code != http.StatusUnauthorized {
			t.Errorf("one of the first was answered %d", code)
		}
	}
	if n := m.questions.Load(); n != maxQuestions {
		t.Errorf("the API server was asked %d times at once", n)
	}
}

func TestRefusalNamesTheWayIn(t *testing.T) {
	w := newMonitor(t).get("/debug/configz", "10.9.9.9:1", "nobody")
	if !bytes.Contains(w.Body.Bytes(), []byte("user nobody may not get the nonResourceURL /debug/configz")) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
