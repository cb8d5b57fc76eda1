package upstream

import (
	"crypto/x509"
	"fmt"
	"reflect"
	"slices"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/mtls"
)

// settings are the configuration of a cluster, made ready to be used. They are
// immutable: a change brings others.
type settings struct {
	cfg        *config.Cluster
	transports []transport
	fallback   transport
	outlier    ejectPolicy
	slow, ramp ramp // of endpoints that are new or back, and of priorities
}

// transport is a decoded transport socket made ready to dial with.
type transport struct {
	match map[string]string
	tls   *mtls.Client // nil: plaintext
	ctx   *config.UpstreamTLS
}

func newSettings(s *Set, cfg *config.Cluster) (*settings, error) {
	n := &settings{cfg: cfg, outlier: policyOf(cfg)}
	n.slow, n.ramp = slowOf(cfg)

	for _, m := range cfg.Matches {
		t, err := newTransport(s, m.Transport)
		if err != nil {
			return nil, fmt.Errorf("cluster %q: transport_socket_matches %q: %w", cfg.Name, m.Transport.Name, err)
		}
		t.match = m.Match
		n.transports = append(n.transports, t)
	}

	var err error
	if n.fallback, err = newTransport(s, cfg.Transport); err != nil {
		return nil, fmt.Errorf("cluster %q: transport_socket: %w", cfg.Name, err)
	}
	return n, nil
}

func newTransport(s *Set, t config.Transport) (transport, error) {
	if t.TLS == nil {
		return transport{}, nil
	}
	cl, err := mtls.NewClient(t.TLS, s.id)
	return transport{tls: cl, ctx: t.TLS}, err
}

// transportFor returns how endpoints with some metadata are reached.
func (s *settings) transportFor(meta map[string]string) *transport {
	for i := range s.transports {
		if fits(s.transports[i].match, meta) {
			return &s.transports[i]
		}
	}
	return &s.fallback
}

// fits tells whether metadata has every entry of match.
func fits(match, meta map[string]string) bool {
	for k, v := range match {
		if got, ok := meta[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// sameTLS tells whether two contexts ask the same of a connection.
func sameTLS(a, b *config.UpstreamTLS) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := *a, *b
	if !samePool(x.Roots.Pool, y.Roots.Pool) {
		return false
	}
	x.Roots.Pool, y.Roots.Pool = nil, nil
	return reflect.DeepEqual(x, y)
}

// samePool compares what pools hold; reflect cannot, they hold functions.
func samePool(a, b *x509.CertPool) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(b)
}

// sameConnections tells whether a connection that was made by one configuration
// may serve under another one, as far as its cluster goes: what holds for a
// connection from its beginning is the same, and so is what its requests are
// counted for.
func sameConnections(a, b *config.Cluster) bool {
	return a.Service == b.Service && slices.Equal(a.BindSource, b.BindSource) &&
		reflect.DeepEqual(a.HTTP, b.HTTP) && reflect.DeepEqual(a.Keepalive, b.Keepalive)
}
