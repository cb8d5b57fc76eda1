package serve

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// snapshot is the state of a feed at one moment. Streams point to the one that
// they sent, so a stream's memory does not grow with the mesh.
type snapshot struct {
	id    uint64 // unique in the server
	names *nameSet
	res   Set
	since time.Time // when the change that led to it was noticed
	step  *step     // from the snapshot before it; nil for the first

	mu      sync.Mutex
	encoded map[uint64]*payload // by id of the snapshot that a stream has; 0 is none
	clear   *time.Timer
}

// step is the difference to the snapshot before, which nearly every stream is
// at.
type step struct {
	from    uint64
	changed []*Resource
	removed []string
}

// payloadLife is how long encoded answers are kept for other streams.
const payloadLife = 3 * time.Second

// payload is the part of an answer that streams share.
type payload struct {
	added   []byte // field 2 of DeltaDiscoveryResponse, encoded, once per resource
	bodies  []byte // field 2 of DiscoveryResponse, encoded likewise
	count   int
	removed []string
}

// from is what a stream that has sent old must send to be at s. old may be nil.
func (s *snapshot) from(old *snapshot, sotw bool) *payload {
	var id uint64
	if old != nil {
		id = old.id
	}

	// Held while it is encoded: all streams want the same at the same moment,
	// and wait for it rather than encode it each for itself.
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.encoded[id]
	if p == nil {
		p = &payload{}
		var changed []*Resource
		changed, p.removed = s.diff(old)
		p.count = len(changed)
		p.encode(changed, sotw)
		s.rememberLocked(id, p)
	} else if sotw && p.bodies == nil || !sotw && p.added == nil {
		changed, _ := s.diff(old)
		p.encode(changed, sotw)
	}
	return p
}

// rememberLocked keeps an encoded answer for a while: a thousand streams ask for
// it at the same time, and then nobody does.
func (s *snapshot) rememberLocked(id uint64, p *payload) {
	if s.encoded == nil {
		s.encoded = make(map[uint64]*payload, 1)
	}
	s.encoded[id] = p
	if s.clear == nil {
		s.clear = time.AfterFunc(payloadLife, func() {
			s.mu.Lock()
			s.encoded, s.clear = nil, nil
			s.mu.Unlock()
		})
	}
}

// all is every resource, for state-of-the-world streams.
func (s *snapshot) all(sotw bool) *payload { return s.from(nil, sotw) }

// diff lists what s has that old has not or not in this version, and what is
// gone. A name that is subscribed to for the first time and does not exist counts
// as gone, so that the client need not wait for it.
func (s *snapshot) diff(old *snapshot) (changed []*Resource, removed []string) {
	switch {
	case old == nil:
		return s.compare(nil, nil)
	case s.step != nil && s.step.from == old.id:
		return s.step.changed, s.step.removed
	case old.names == s.names:
		return s.res.since(old.res)
	}
	return s.compare(func(name string) (string, bool) {
		if r := old.res.Get(name); r != nil {
			return r.Version, true
		}
		return "", old.names.has(name)
	}, old.res.names())
}

func sortByName(list []*Resource) {
	slices.SortFunc(list, func(a, b *Resource) int { return strings.Compare(a.Name, b.Name) })
}

// diffVersions works out the same for a client that says which versions it has.
func (s *snapshot) diffVersions(have map[string]string) (changed []*Resource, removed []string) {
	return s.compare(func(name string) (string, bool) {
		v, ok := have[name]
		return v, ok
	}, maps.Keys(have))
}

// compare does the work of both. had gives the version that a client has, or ""
// and true when it knows that there is none; known lists the names it has.
func (s *snapshot) compare(had func(string) (string, bool), known func(func(string) bool)) (changed []*Resource, removed []string) {
	for name, r := range s.res.All() {
		if had != nil {
			if v, ok := had(name); ok && v == r.Version {
				continue
			}
		}
		changed = append(changed, r)
	}
	sortByName(changed)

	if known != nil {
		for name := range known {
			if s.res.Get(name) == nil && s.names.has(name) {
				removed = append(removed, name)
			}
		}
	}

	for _, name := range s.names.without(s.res) {
		if had != nil {
			if _, ok := had(name); ok {
				continue
			}
		}
		removed = append(removed, name)
	}
	slices.Sort(removed)
	return changed, removed
}

// encode fills the form that is asked for.
func (p *payload) encode(changed []*Resource, sotw bool) {
	if sotw {
		p.bodies = encodeBodies(changed)
	} else {
		p.added = encodeResources(changed)
	}
}

// encodeResources writes field 2 (resources) of
// envoy.service.discovery.v3.DeltaDiscoveryResponse.
func encodeResources(res []*Resource) []byte {
	size := 0
	for _, r := range res {
		size += len(r.Name) + len(r.Version) + len(r.Body.GetTypeUrl()) + len(r.Body.GetValue()) + 40
	}
	b := make([]byte, 0, size)
	for _, r := range res {
		any := anySize(r)
		n := fieldSize(1, len(r.Version)) + fieldSize(2, any) + fieldSize(3, len(r.Name))
		b = protowire.AppendTag(b, 2, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(n))
		b = appendString(b, 1, r.Version)
		b = protowire.AppendTag(b, 2, protowire.BytesType)
		b = appendAny(protowire.AppendVarint(b, uint64(any)), r)
		b = appendString(b, 3, r.Name)
	}
	return b
}

// encodeBodies writes field 2 (resources) of
// envoy.service.discovery.v3.DiscoveryResponse.
func encodeBodies(res []*Resource) []byte {
	b := []byte{}
	for _, r := range res {
		b = protowire.AppendTag(b, 2, protowire.BytesType)
		b = appendAny(protowire.AppendVarint(b, uint64(anySize(r))), r)
	}
	return b
}

func anySize(r *Resource) int {
	return fieldSize(1, len(r.Body.GetTypeUrl())) + fieldSize(2, len(r.Body.GetValue()))
}

// appendAny writes a google.protobuf.Any: type_url and value.
func appendAny(b []byte, r *Resource) []byte {
	b = appendString(b, 1, r.Body.GetTypeUrl())
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	return protowire.AppendBytes(b, r.Body.GetValue())
}

func fieldSize(field protowire.Number, n int) int {
	return protowire.SizeTag(field) + protowire.SizeBytes(n)
}
