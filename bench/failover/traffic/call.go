package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/bench/failover/record"
)

// caller sends one load at a time.
type caller struct {
	mu  sync.Mutex
	run *running // nil between runs
}

// call does what it is asked on the control port until ctx ends.
func call(ctx context.Context) error {
	c := &caller{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /start", func(w http.ResponseWriter, r *http.Request) { c.start(ctx, w, r) })
	mux.HandleFunc("GET /recent", c.recent)
	mux.HandleFunc("POST /stop", c.stop)
	return serveAll(ctx, map[int]http.Handler{record.PortControl: mux})
}

func (c *caller) start(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	var load record.Load
	if err := json.NewDecoder(r.Body).Decode(&load); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run != nil { // a bench that was ended has left it
		c.run.end()
	}
	c.run = start(ctx, load)
}

// recent tells of the answers that came within the time that is asked for.
func (c *caller) recent(w http.ResponseWriter, r *http.Request) {
	within, err := time.ParseDuration(r.URL.Query().Get("within"))
	if err != nil {
		http.Error(w, "within: "+err.Error(), http.StatusBadRequest)
		return
	}
	run := c.current(false)
	if run == nil {
		http.Error(w, "nothing is being sent", http.StatusConflict)
		return
	}
	_ = json.NewEncoder(w).Encode(run.recent(time.Now().Add(-within)))
}

// stop ends the run and hands over what became of it.
func (c *caller) stop(w http.ResponseWriter, _ *http.Request) {
	run := c.current(true)
	if run == nil {
		http.Error(w, "nothing is being sent", http.StatusConflict)
		return
	}
	_ = run.end().Write(w)
}

// current is the run that goes on; it may be taken out.
func (c *caller) current(take bool) *running {
	c.mu.Lock()
	defer c.mu.Unlock()
	run := c.run
	if take {
		c.run = nil
	}
	return run
}

// running is a load that is being sent.
type running struct {
	load   record.Load
	client *http.Client
	cancel context.CancelFunc
	all    sync.WaitGroup

	mu   sync.Mutex
	done record.Run
}

// connections bounds the idle connections that are kept, above what a run has in
// flight when nothing answers.
const connections = 4096

func start(ctx context.Context, load record.Load) *running {
	ctx, cancel := context.WithCancel(ctx)
	transport := &http.Transport{MaxIdleConnsPerHost: connections, IdleConnTimeout: time.Minute}
	r := &running{
		load: load, client: &http.Client{Transport: transport}, cancel: cancel, done: record.Run{},
	}

	for method, rate := range load.Rates {
		r.all.Go(func() { r.pace(ctx, method, time.Duration(float64(time.Second)/rate)) })
	}
	return r
}

// pace starts a request whenever one is due, however many are still open.
func (r *running) pace(ctx context.Context, method string, every time.Duration) {
	began := time.Now()
	for n := 0; ; n++ {
		due := began.Add(time.Duration(n) * every)
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(due)):
		}
		r.all.Go(func() { r.send(method, due, n) })
	}
}

// send makes one request and notes what became of it.
func (r *running) send(method string, due time.Time, n int) {
	ctx, cancel := context.WithDeadline(context.Background(), due.Add(r.load.Timeout))
	defer cancel()

	got := record.Request{Due: due}
	if err := r.ask(ctx, method, n, &got); err != nil {
		got.Status, got.Why = 0, err.Error()
	}
	got.Took = time.Since(due)

	r.mu.Lock()
	r.done[method] = append(r.done[method], got)
	r.mu.Unlock()
}

// said bounds what is kept of an answer.
const said = 200

func (r *running) ask(ctx context.Context, method string, n int, got *record.Request) error {
	var body io.Reader
	if method == http.MethodPost {
		// The name of the pod, the time and the number: no two are the same.
		body = strings.NewReader(fmt.Sprintf("%s-%d-%d", os.Getenv("POD"), got.Due.UnixNano(), n))
	}
	req, err := http.NewRequestWithContext(ctx, method, r.load.URL, body)
	if err != nil {
		return err
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()

	text, err := io.ReadAll(io.LimitReader(resp.Body, said))
	if err != nil {
		return err
	}
	got.Status = resp.StatusCode
	if got.OK() {
		got.By = strings.TrimSpace(string(text))
	} else {
		got.Why = strings.TrimSpace(string(text))
	}
	return nil
}

// end sends no more, and returns once every request has its end.
func (r *running) end() record.Run {
	r.cancel()
	r.all.Wait()
	r.client.CloseIdleConnections()
	return r.done
}

// recent counts what ended since.
func (r *running) recent(since time.Time) record.Recent {
	r.mu.Lock()
	defer r.mu.Unlock()

	got := record.Recent{By: map[string]int{}}
	for _, list := range r.done {
		// They stand in the order of their ends.
		for i := len(list) - 1; i >= 0 && list[i].End().After(since); i-- {
			got.Sent++
			if !list[i].OK() {
				got.Failed++
				continue
			}
			cluster, _, _ := strings.Cut(list[i].By, "/")
			got.By[cluster]++
		}
	}
	return got
}
