package clusters

import (
	"errors"
	"time"

	"github.com/isthmus-mesh/isthmus/model"
)

// Status is how a cluster fares, in one word.
type Status string

// The statuses.
const (
	// Synced: everything was read, and changes are followed.
	Synced Status = "synced"
	// Syncing: the API server answers, and not everything was read yet.
	Syncing Status = "syncing"
	// Stale: the API server does not answer. What was last read of the cluster
	// is in force, if anything was.
	Stale Status = "stale"
	// Refused: the Secret cannot be used, or the API server does not take what
	// is in it. What was read of the cluster before is in force, if anything was.
	Refused Status = "refused"
)

// State is how a cluster fares, for people and for scripts: `remote-clusters`
// prints it.
type State struct {
	// Cluster is empty for a Secret that names none.
	Cluster model.ClusterID `json:"cluster"`
	// Secret is empty for the own cluster.
	Secret string `json:"secret,omitempty"`
	Status Status `json:"status"`
	// Since is when the Status began; zero when it is not known.
	Since time.Time `json:"since,omitzero"`
	// Reason says why a cluster is not, or not wholly, followed.
	Reason string `json:"reason,omitempty"`
	// Server is the address of the API server.
	Server string `json:"server,omitempty"`
	// TokenEnds is when the token in the Secret ends; zero when it does not, or
	// when there is none.
	TokenEnds time.Time `json:"tokenEnds,omitzero"`
	// Services and Endpoints are how many of them are known.
	Services  int `json:"services"`
	Endpoints int `json:"endpoints"`
	// Network is the one that the cluster is in, and Gateways how many addresses
	// lead into it from others. Which these are depends on the mesh's
	// configuration: whoever knows it fills them in.
	Network  string `json:"network,omitempty"`
	Gateways int    `json:"gateways"`
}

// States are the states of all clusters, the own one first, then the others by
// name, then what is refused.
func (s *Set) States() []State {
	out := []State{s.own()}
	for _, m := range s.all() {
		out = append(out, m.state())
	}

	counts := count(s.store)
	for i := range out {
		c := counts[out[i].Cluster]
		out[i].Services, out[i].Endpoints = c.services, c.endpoints
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.refused {
		if m := s.members[c.cluster]; m != nil && m.secretName() == c.secret.Name {
			continue // it is read as the Secret said before, and says so
		}
		out = append(out, State{Cluster: c.cluster, Secret: c.secret.Name, Status: Refused, Reason: c.refused.Error()})
	}
	return out
}

// own is the state of the control plane's cluster, which is read without a
// Secret.
func (s *Set) own() State {
	out := State{Cluster: s.cfg.Cluster, Status: Syncing}
	row, _, ok := s.store.Clusters.Get(s.store.Read(), s.store.Clusters.ByKey(string(s.cfg.Cluster)))
	switch {
	case ok && row.Stale:
		out.Status, out.Since, out.Reason = Stale, row.Since, "the API server does not answer"
	case ok && row.Synced:
		out.Status = Synced
	}
	return out
}

func (m *member) secretName() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.candidate.secret.Name
}

// state is that of the member, without numbers.
func (m *member) state() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := State{
		Cluster: m.id, Secret: m.candidate.secret.Name, Since: m.since,
		Server: m.candidate.access.cluster.Server,
	}
	if c, err := readClaims(m.candidate.access.token); err == nil {
		out.TokenEnds = c.ends()
	}

	switch {
	case m.serving != nil && !m.serving.ended() && !m.inStore():
		// It has taken over, and writes what it has read.
		out.Status, out.Reason = Syncing, "everything is being read"
	case m.serving != nil && !m.serving.ended():
		out.Status = Synced
		if refused := m.serving.door.trouble(); refused != "" {
			// What it was let read once it is not let follow.
			out.Status, out.Reason = Stale, "the API server refuses "+refused
		}
		if m.next != nil && m.lastErr != nil {
			out.Reason = "the kubeconfig as it is now does not work, the one before does: " + m.lastErr.Error()
		}
	case m.next != nil && m.next.at() != knocking:
		out.Status, out.Reason = Syncing, "everything is being read"
		if refused := m.next.door.trouble(); refused != "" {
			out.Reason = "the API server refuses " + refused
		}
	case m.lastErr != nil:
		out.Status, out.Reason = Stale, m.lastErr.Error()
		if errors.As(m.lastErr, new(notTaken)) {
			out.Status = Refused
			if !out.TokenEnds.IsZero() && time.Now().After(out.TokenEnds) {
				out.Reason = "the token has ended; make another with create-remote-secret"
			}
		}
	default:
		out.Status, out.Reason = Syncing, "the API server is being reached"
	}

	if m.notRenewed != nil && out.Reason == "" {
		out.Reason = "the token cannot be renewed: " + m.notRenewed.Error()
	}
	if m.rejected != "" {
		out.Reason = "the Secret as it is now is refused, what it said before stays in force: " + m.rejected
	}
	return out
}

// numbers are how many rows a cluster has.
type numbers struct{ services, endpoints int }

func count(store *model.Store) map[model.ClusterID]numbers {
	out := map[model.ClusterID]numbers{}
	txn := store.Read()
	add := func(id model.ClusterID, more numbers) {
		n := out[id]
		n.services += more.services
		n.endpoints += more.endpoints
		out[id] = n
	}
	for r := range store.Services.All(txn) {
		if r.Origin == model.FromKubernetes {
			add(r.Cluster, numbers{services: 1})
		}
	}
	for r := range store.Endpoints.All(txn) {
		add(r.Cluster, numbers{endpoints: len(r.Endpoints)})
	}
	return out
}
