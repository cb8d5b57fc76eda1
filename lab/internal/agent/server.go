package agent

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/lab/internal/fabric"
)

// State is what an agent knows of its lab.
type State struct {
	// Running names the clusters whose machine is on.
	Running    []string    `json:"running"`
	Partitions []Partition `json:"partitions"`
	Exposed    []Exposure  `json:"exposed"`
}

// Partition is a pair of clusters that do not reach each other.
type Partition struct {
	A    string      `json:"a"`
	B    string      `json:"b"`
	Mode fabric.Mode `json:"mode"`
}

// Exposure is an address of a cluster's network on the host's loopback.
type Exposure struct {
	Cluster string `json:"cluster"`
	Address string `json:"address"`
	// Port is the host's; in a request 0 asks for any.
	Port int `json:"port"`
}

// started says since when a machine runs.
type started struct {
	Since time.Time `json:"since"`
}

// reachTimeout bounds a single try to connect: callers try again.
const reachTimeout = time.Second

type failure struct {
	Error string `json:"error"`
}

func (a *Agent) handler() http.Handler {
	mux := http.NewServeMux()
	handle(mux, "GET /state", func(*http.Request, struct{}) (State, error) { return a.state(), nil })
	handle(mux, "POST /clusters/{name}/start", func(r *http.Request, _ struct{}) (started, error) {
		c, err := a.lab.Cluster(r.PathValue("name"))
		if err != nil {
			return started{}, err
		}
		since, err := a.nodes[c.Name()].start(r.Context())
		return started{Since: since}, err
	})

	handle(mux, "POST /clusters/{name}/stop", func(r *http.Request, _ struct{}) (struct{}, error) {
		c, err := a.lab.Cluster(r.PathValue("name"))
		if err == nil {
			err = a.nodes[c.Name()].stop(r.Context())
		}
		return struct{}{}, err
	})

	handle(mux, "POST /partition", func(r *http.Request, p Partition) (struct{}, error) {
		pair, err := a.pair(p)
		if err == nil {
			err = a.fabric.Cut(r.Context(), pair, p.Mode)
		}
		return struct{}{}, err
	})
	handle(mux, "POST /heal", func(r *http.Request, _ struct{}) (struct{}, error) {
		return struct{}{}, a.fabric.Heal(r.Context())
	})

	handle(mux, "POST /expose", func(_ *http.Request, e Exposure) (Exposure, error) {
		c, err := a.lab.Cluster(e.Cluster)
		if err != nil {
			return Exposure{}, err
		}
		return a.expose(c, e.Address, e.Port)
	})

	handle(mux, "POST /reach", func(r *http.Request, e Exposure) (struct{}, error) {
		c, err := a.lab.Cluster(e.Cluster)
		if err != nil {
			return struct{}{}, err
		}
		ctx, cancel := context.WithTimeout(r.Context(), reachTimeout)
		defer cancel()
		conn, err := a.nodes[c.Name()].dial(ctx, e.Address)
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, conn.Close()
	})
	return mux
}

// handle serves a JSON call: an empty request body stands for the zero Req.
func handle[Req, Resp any](mux *http.ServeMux, pattern string, call func(*http.Request, Req) (Resp, error)) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		var req Req
		var err error
		if r.ContentLength != 0 {
			err = json.NewDecoder(r.Body).Decode(&req)
		}

		var resp any
		if err == nil {
			resp, err = call(r, req)
		}

		w.Header().Set("Content-Type", "application/json")
		if err != nil {
			w.WriteHeader(http.StatusUnprocessableEntity)
			resp = failure{Error: err.Error()}
		}

		// A caller that has gone away needs no answer.
		_ = json.NewEncoder(w).Encode(resp)
	})
}

func (a *Agent) pair(p Partition) (fabric.Pair, error) {
	x, err := a.lab.Cluster(p.A)
	if err != nil {
		return fabric.Pair{}, err
	}
	y, err := a.lab.Cluster(p.B)
	if err != nil {
		return fabric.Pair{}, err
	}
	return fabric.NewPair(x, y)
}

func (a *Agent) state() State {
	s := State{Running: []string{}, Partitions: []Partition{}}
	for _, c := range a.lab.Clusters {
		if a.nodes[c.Name()].running() != 0 {
			s.Running = append(s.Running, c.Name())
		}
	}
	for pair, mode := range a.fabric.Cuts() {
		s.Partitions = append(s.Partitions, Partition{A: pair.A.Name(), B: pair.B.Name(), Mode: mode})
	}
	slices.SortFunc(s.Partitions, func(x, y Partition) int { return strings.Compare(x.A+x.B, y.A+y.B) })

	a.mu.Lock()
	defer a.mu.Unlock()
	s.Exposed = append([]Exposure{}, a.exposed...)
	return s
}
