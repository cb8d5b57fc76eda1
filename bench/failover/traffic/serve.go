package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/bench/failover/record"
)

// server answers work, and says who did it.
type server struct {
	name  string   // CLUSTER/POD
	acted *os.File // the bodies of POSTs, a line each

	unavailable atomic.Bool
	gets, posts atomic.Int64
}

// serve answers until ctx ends, then as a well-behaved application does: it takes
// no new connection, and ends what it has begun.
func serve(ctx context.Context) error {
	// All pods of a node append to one file. Lines of this length are written
	// whole (POSIX write with O_APPEND), and outlive a process that is killed.
	acted, err := os.OpenFile(filepath.Join(record.CountsDir, "acted"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open the list of what was acted on: %w", err)
	}
	defer acted.Close()
	s := &server{name: os.Getenv("CLUSTER") + "/" + os.Getenv("POD"), acted: acted}

	mux := http.NewServeMux()
	mux.HandleFunc("/work", s.work)
	mux.HandleFunc("GET /ready", func(http.ResponseWriter, *http.Request) {})
	control := http.NewServeMux()
	control.HandleFunc("POST /mode", s.setMode)
	control.HandleFunc("GET /counts", s.counts)

	return serveAll(ctx, map[int]http.Handler{record.PortWork: mux, record.PortControl: control})
}

// work is what is asked under test.
func (s *server) work(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<10))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}

	// From here on the request has had its effect, whatever the caller hears.
	if r.Method == http.MethodPost {
		s.posts.Add(1)
		if _, err := fmt.Fprintf(s.acted, "%s\n", body); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	} else {
		s.gets.Add(1)
	}

	if s.unavailable.Load() {
		http.Error(w, s.name+" was told to answer so", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, s.name)
}

func (s *server) setMode(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 100))
	mode := string(body)
	if err != nil || mode != record.ModeAnswer && mode != record.ModeUnavailable {
		http.Error(w, fmt.Sprintf("mode %q: want %s or %s", mode, record.ModeAnswer, record.ModeUnavailable), http.StatusBadRequest)
		return
	}
	s.unavailable.Store(mode == record.ModeUnavailable)
}

func (s *server) counts(w http.ResponseWriter, _ *http.Request) {
	_ = json.NewEncoder(w).Encode(record.Counts{Get: s.gets.Load(), Post: s.posts.Load()})
}

// endTimeout bounds what an application still ends after SIGTERM.
const endTimeout = 5 * time.Second

// serveAll serves each handler on its port until ctx ends.
func serveAll(ctx context.Context, handlers map[int]http.Handler) error {
	failed := make(chan error, len(handlers))
	var servers []*http.Server
	for port, h := range handlers {
		s := &http.Server{Addr: fmt.Sprintf(":%d", port), Handler: h, ReadHeaderTimeout: 10 * time.Second}
		servers = append(servers, s)
		go func() { failed <- s.ListenAndServe() }()
	}

	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	var errs []error
	for _, s := range servers {
		errs = append(errs, s.Shutdown(ending))
	}
	return errors.Join(errs...)
}
