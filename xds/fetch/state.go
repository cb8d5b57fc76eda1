package fetch

import (
	"errors"
	"maps"
	"sync"

	"github.com/isthmus-mesh/isthmus/internal/wake"
	"github.com/isthmus-mesh/isthmus/xds"
)

// resourceKey names a resource among those of all types.
type resourceKey struct{ typeURL, name string }

func (r *Resource) key() resourceKey { return resourceKey{r.Body.GetTypeUrl(), r.Name} }

// state is what the handler has in force. It outlives streams. The client's
// goroutine writes it, and the keeper reads it from its own.
type state struct {
	changed wake.Signal // for the keeper

	mu       sync.Mutex                   // guards what follows; no other is taken with it
	versions map[string]map[string]string // type → name → version
	served   map[string]bool              // types that discovery has answered for
	// unsaved are resources that the file has not got yet. It is nil when
	// nothing is kept: the handler has made of them what it needs, and their
	// bytes would be there for nothing.
	unsaved map[resourceKey]Resource
}

func newState(types []string, keep bool) *state {
	s := &state{
		changed: wake.NewSignal(), versions: make(map[string]map[string]string, len(types)), served: make(map[string]bool, len(types)),
	}
	for _, t := range types {
		s.versions[t] = make(map[string]string)
	}
	if keep {
		s.unsaved = make(map[resourceKey]Resource)
	}
	return s
}

// follows tells whether the type is one that the client asks for.
func (s *state) follows(typeURL string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.versions[typeURL] != nil
}

// has gives a copy of the versions of a type, by name.
func (s *state) has(typeURL string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.versions[typeURL])
}

// record notes what is in force after an update to which the handler said err.
func (s *state) record(typeURL string, added []Resource, removed []string, err error) {
	var reject *RejectError
	if err != nil && !errors.As(err, &reject) {
		return
	}
	refused := func(name string) bool { return reject != nil && reject.Reasons[name] != nil }

	s.mu.Lock()
	defer s.mu.Unlock()
	s.served[typeURL] = true
	versions := s.versions[typeURL]
	for _, r := range added {
		if refused(r.Name) {
			continue
		}
		versions[r.Name] = r.Version
		if s.unsaved != nil {
			s.unsaved[r.key()] = r
		}
	}
	for _, n := range removed {
		if !refused(n) {
			s.dropLocked(typeURL, n)
		}
	}
	s.changed.Send()
}

// forget drops the resources of a type whose names are not wanted any more.
func (s *state) forget(typeURL string, wanted map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := range s.versions[typeURL] {
		if !wanted[xds.SubscribedAs(typeURL, n)] {
			s.dropLocked(typeURL, n)
			s.changed.Send()
		}
	}
}

func (s *state) dropLocked(typeURL, name string) {
	delete(s.versions[typeURL], name)
	delete(s.unsaved, resourceKey{typeURL, name})
}

// snapshot is a copy of a state.
type snapshot struct {
	versions map[resourceKey]string
	types    []string
	unsaved  map[resourceKey]Resource
}

func (s *state) snapshot() snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := snapshot{versions: make(map[resourceKey]string), unsaved: maps.Clone(s.unsaved)}
	for t, versions := range s.versions {
		if s.served[t] {
			out.types = append(out.types, t)
		}
		for n, v := range versions {
			out.versions[resourceKey{t, n}] = v
		}
	}
	return out
}

// saved drops the bodies that are in the file now.
func (s *state) saved(in snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, r := range in.unsaved {
		if now, ok := s.unsaved[k]; ok && now.Body == r.Body {
			delete(s.unsaved, k)
		}
	}
}

// keepNothing gives up what was collected for the file.
func (s *state) keepNothing() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsaved = nil
}
