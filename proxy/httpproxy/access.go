package httpproxy

import (
	"strings"

	"github.com/isthmus-mesh/isthmus/proxy/access"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
	"github.com/isthmus-mesh/isthmus/proxy/http1"
)

// Supersede makes the handler, whose connections go on for a while, decide by the policies
// of the one that took its place: a connection that was kept must not be a way around them.
// Of several calls the last counts. It may be called at any time; handlers of other kinds
// are left alone.
func (h *Handler) Supersede(by any) {
	if next, ok := by.(*Handler); ok && next != h {
		h.next.Store(next)
	}
}

// inForce is the handler whose policies are.
func (h *Handler) inForce() *Handler {
	for next := h.next.Load(); next != nil; next = h.next.Load() {
		h = next
	}
	return h
}

// peer is who sends the requests of one connection. One goroutine uses it.
type peer struct {
	policy *access.Policy // by which caller was found
	caller *access.Caller // nil may do everything
}

// of returns what the policies that are in force let the peer do.
func (p *peer) of(h *Handler, info *downstream.Info) *access.Caller {
	if now := h.inForce().access; now != p.policy {
		p.policy = now
		p.caller = now.For(access.Connection{
			Principal: info.PeerPrincipal(), Peer: info.Peer.Addr(), Local: info.Local, SNI: info.SNI,
		})
	}
	return p.caller
}

// Field implements access.Fields.
func (s *session) Field(i int) (name, value string, more bool) {
	if i >= len(s.req.Fields) {
		return s.fields.addedField(i - len(s.req.Fields))
	}
	f := &s.req.Fields[i]
	if !f.Drop && f.ID != http1.FieldEnvoyInternal {
		name = http1.View(s.req.Name(f))
	}
	return name, http1.View(s.req.Value(f)), true
}

// Field implements access.Fields.
func (r *h2request) Field(i int) (name, value string, more bool) {
	if i >= len(r.fields) {
		return "", "", false
	}
	f := &r.fields[i]
	if strings.HasPrefix(f.Name, "x-envoy-") && http1.EnvoyField([]byte(f.Name)) == http1.FieldEnvoyInternal {
		return "", "", true
	}
	return f.Name, f.Value, true
}
