package serve

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"sort"
	"sync"
	"time"
)

// Sync states of a type on a stream.
const (
	Synced   = "SYNCED"   // the last answer is acknowledged
	Stale    = "STALE"    // the last answer is not acknowledged yet
	Rejected = "REJECTED" // the last answer was refused
)

// TypeStatus is how far a proxy is with one type of resource.
type TypeStatus struct {
	State     string    `json:"state"`
	Sent      string    `json:"sent"`            // nonce of the last answer
	Acked     string    `json:"acked,omitempty"` // nonce of the last one acknowledged
	Error     string    `json:"error,omitempty"` // why the last one was refused
	Resources int       `json:"resources"`
	SentAt    time.Time `json:"sentAt"`
	AckedAt   time.Time `json:"ackedAt,omitzero"`

	id uint64
}

// ProxyStatus is one connected proxy.
type ProxyStatus struct {
	Proxy     string                `json:"proxy"` // POD.NAMESPACE
	Node      string                `json:"node"`
	Kind      string                `json:"kind"`
	Identity  string                `json:"identity,omitempty"`
	Version   string                `json:"version,omitempty"` // metadata ISTIO_VERSION
	Cluster   string                `json:"cluster,omitempty"` // metadata CLUSTER_ID
	Peer      string                `json:"peer"`
	View      string                `json:"view"`
	Connected time.Time             `json:"connected"`
	Types     map[string]TypeStatus `json:"types"` // by cds, eds, lds, rds, vhds, nds
}

// streamStatus is what the debug page may read while the stream runs.
type streamStatus struct {
	mu    sync.Mutex
	view  string
	types map[string]TypeStatus
}

func (s *streamStatus) setView(key string) {
	s.mu.Lock()
	s.view = key
	s.mu.Unlock()
}

func (s *streamStatus) update(typ string, f func(*TypeStatus)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.types == nil {
		s.types = make(map[string]TypeStatus, 4)
	}
	t := s.types[typ]
	f(&t)
	s.types[typ] = t
}

func (s *streamStatus) sent(typ, nonce string, id uint64, resources int) {
	s.update(typ, func(t *TypeStatus) {
		t.State, t.Sent, t.SentAt, t.id, t.Resources = Stale, nonce, time.Now(), id, resources
	})
}

func (s *streamStatus) acked(typ, nonce string) {
	s.update(typ, func(t *TypeStatus) { t.State, t.Acked, t.AckedAt, t.Error = Synced, nonce, time.Now(), "" })
}

func (s *streamStatus) refused(typ, why string) {
	s.update(typ, func(t *TypeStatus) { t.State, t.Error = Rejected, why })
}

func (s *Server) add(st *stream) {
	st.status.setView(st.group.key)
	s.mu.Lock()
	s.streams[st] = struct{}{}
	n := len(s.streams)
	s.mu.Unlock()
	s.metrics.streams.Set(float64(n))
}

func (s *Server) drop(st *stream) {
	s.mu.Lock()
	delete(s.streams, st)
	n := len(s.streams)
	s.mu.Unlock()
	s.metrics.streams.Set(float64(n))
}

// Proxies lists the connected proxies by name.
func (s *Server) Proxies() []ProxyStatus {
	s.mu.Lock()
	streams := slices.Collect(maps.Keys(s.streams))
	s.mu.Unlock()
	out := make([]ProxyStatus, 0, len(streams))
	for _, st := range streams {
		out = append(out, st.report())
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Node < out[j].Node })
	return out
}

func (st *stream) report() ProxyStatus {
	id := st.node.ID
	p := ProxyStatus{
		Proxy: id.Pod + "." + id.Namespace, Node: id.String(), Kind: id.Kind,
		Peer: st.node.Peer.String(), Connected: st.connected,
	}
	if !st.node.Identity.IsZero() {
		p.Identity = st.node.Identity.String()
	}
	md := st.node.Core.GetMetadata().GetFields()
	p.Version, p.Cluster = md["ISTIO_VERSION"].GetStringValue(), md["CLUSTER_ID"].GetStringValue()
	st.status.mu.Lock()
	p.View, p.Types = st.status.view, maps.Clone(st.status.types)
	st.status.mu.Unlock()
	return p
}

// SyncHandler serves the list of connected proxies as JSON, for /debug/syncz.
// With ?proxy=POD.NAMESPACE it gives that proxy alone.
func (s *Server) SyncHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		list := s.Proxies()
		if want := r.URL.Query().Get("proxy"); want != "" {
			list = slices.DeleteFunc(list, func(p ProxyStatus) bool { return p.Proxy != want })
		}
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		_ = enc.Encode(list) // the client has gone
	})
}
