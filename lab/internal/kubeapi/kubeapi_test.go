package kubeapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// TestCallsToAServerThatHangsEnd: a call has an end of its own, so that what
// polls goes on to its next look. A watch has none: it is silent for as long as
// nothing changes.
func TestCallsToAServerThatHangsEnd(t *testing.T) {
	const patience = 100 * time.Millisecond
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/hangs":
			_, _ = io.Copy(io.Discard, r.Body) // until then the server does not see the client go
			<-r.Context().Done()
		case r.URL.Query().Has("watch"):
			http.NewResponseController(w).Flush()
			time.Sleep(3 * patience)
			w.Write([]byte(`{"type": "ADDED", "object": 1}`))
		default:
			w.Write([]byte("{}"))
		}
	}))
	defer s.Close()
	c := &Client{base: s.URL, http: s.Client(), patience: patience}
	if err := c.Get(t.Context(), "/hangs", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("reading: %v", err)
	}
	if err := c.MergePatch(t.Context(), "/hangs", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("patching: %v", err)
	}
	seen := 0
	err := Follow(t.Context(), c, "/list", func([]int) error { return nil }, func(Event[int]) error { seen++; return nil })
	if seen != 1 || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a watch saw %d changes and ended with %v", seen, err)
	}
}
