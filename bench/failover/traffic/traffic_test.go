package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/bench/failover/record"
)

// TestCallerKeepsItsRate: requests go out when they are due although none of those
// before is answered, and the wait counts from when they were due.
func TestCallerKeepsItsRate(t *testing.T) {
	const wanted = 20
	var came atomic.Int64
	answer := make(chan struct{})
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if came.Add(1) == wanted {
			close(answer)
		}
		<-answer
		_, _ = w.Write([]byte("a/pod\n"))
	}))
	defer web.Close()

	r := start(t.Context(), record.Load{URL: web.URL, Rates: map[string]float64{"GET": 500}, Timeout: 20 * time.Second})
	select {
	case <-answer:
	case <-time.After(20 * time.Second):
		t.Fatalf("%d requests came, want %d before the first is answered", came.Load(), wanted)
	}
	gets := r.end()["GET"]

	if len(gets) < wanted {
		t.Fatalf("%d requests were noted, want %d", len(gets), wanted)
	}
	first := gets[0]
	for _, got := range gets {
		if !got.OK() || got.By != "a/pod" {
			t.Fatalf("noted %+v, want an answer of a/pod", got)
		}
		if got.Due.Before(first.Due) {
			first = got
		}
	}
	// The first waited for all others to be sent: two milliseconds each.
	if least := (wanted - 1) * 2 * time.Millisecond; first.Took < least {
		t.Errorf("the first request took %s, want %s at least", first.Took, least)
	}
}

func TestCallerNotesFailures(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			panic(http.ErrAbortHandler)
		}
		http.Error(w, "not now", http.StatusServiceUnavailable)
	}))
	defer web.Close()

	r := start(t.Context(), record.Load{URL: web.URL, Rates: map[string]float64{"GET": 100, "POST": 100}, Timeout: 20 * time.Second})
	for limit := time.Now().Add(20 * time.Second); time.Now().Before(limit); time.Sleep(time.Millisecond) {
		if got := r.recent(time.Now().Add(-time.Minute)); got.Failed >= 10 {
			break
		}
	}
	run := r.end()

	if len(run["GET"]) == 0 || len(run["POST"]) == 0 {
		t.Fatalf("noted %d GETs and %d POSTs, want some of both", len(run["GET"]), len(run["POST"]))
	}
	if got := run["GET"][0]; got.OK() || got.Status != 503 || got.Why != "not now" {
		t.Errorf("noted %+v, want status 503, \"not now\"", got)
	}
	if got := run["POST"][0]; got.OK() || got.Status != 0 || got.Why == "" {
		t.Errorf("noted %+v, want no status, and the error", got)
	}
}

// TestServerNotesWhatItActedOn: a POST has had its effect also where its caller is
// told otherwise.
func TestServerNotesWhatItActedOn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "acted")
	acted, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer acted.Close()
	s := &server{name: "a/pod", acted: acted}

	ask := func(method, body string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		s.work(w, httptest.NewRequest(method, "/work", strings.NewReader(body)))
		return w
	}
	if w := ask("POST", "id-1"); w.Code != 200 || w.Body.String() != "a/pod\n" {
		t.Errorf("answered %d %q, want 200 and the name", w.Code, w.Body)
	}
	s.unavailable.Store(true)
	if w := ask("POST", "id-2"); w.Code != 503 {
		t.Errorf("answered %d, want 503", w.Code)
	}
	if w := ask("GET", ""); w.Code != 503 {
		t.Errorf("answered %d, want 503", w.Code)
	}

	list, err := os.ReadFile(file)
	if err != nil || string(list) != "id-1\nid-2\n" {
		t.Errorf("noted %q (%v), want both POSTs", list, err)
	}
	if s.gets.Load() != 1 || s.posts.Load() != 2 {
		t.Errorf("counted %d GETs and %d POSTs, want 1 and 2", s.gets.Load(), s.posts.Load())
	}
}

func TestStartedWith(t *testing.T) {
	for _, tt := range []struct {
		cmdline string
		words   string
		want    bool
	}{
		{"/traffic\x00serve\x00", "traffic serve", true},
		{"/traffic\x00call\x00", "traffic serve", false},
		{"traffic\x00", "traffic serve", false},
		{"/tmp/traffic\x00signal\x00KILL\x00all\x00traffic\x00serve\x00", "traffic serve", false},
		{"", "traffic", false},
		{"/bin/kube-apiserver\x00--etcd\x00", "kube-apiserver", true},
	} {
		if got := startedWith(tt.cmdline, strings.Fields(tt.words)); got != tt.want {
			t.Errorf("%q begins with %q: %v, want %v", tt.cmdline, tt.words, got, tt.want)
		}
	}
}

func TestInPod(t *testing.T) {
	const environ = "PATH=/bin\x00HOSTNAME=istio-ingressgateway-5-x\x00"
	for pod, want := range map[string]bool{"": true, "istio-ingressgateway-": true, "istio-egressgateway-": false} {
		if got := inPod(environ, pod); got != want {
			t.Errorf("in a pod %q: %v, want %v", pod, got, want)
		}
	}
	if inPod("", "istiod-") {
		t.Error("a process without a host name is in a pod")
	}
}
