package ca

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/identity"
)

// Authority signs certificates. Its methods may be called from several
// goroutines, while [Authority.Run] exchanges the key when the Secret cacerts
// changes.
type Authority struct {
	cfg     Config
	client  kubernetes.Interface
	cur     atomic.Pointer[Material]
	metrics *metrics

	mu      sync.Mutex // guards changed
	changed chan struct{}
}

// Load reads the signing CA from the Secret cacerts, or else from
// istio-ca-secret, which it creates if need be. Several replicas may start at
// once: the first to create wins, and the others read what it made. A cacerts
// that is there but wrong is an error, never a reason to fall back to another
// root.
func Load(ctx context.Context, client kubernetes.Interface, cfg Config) (*Authority, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	a := &Authority{cfg: cfg, client: client, changed: make(chan struct{})}
	m, err := a.load(ctx)
	if err != nil {
		return nil, err
	}
	a.metrics = newMetrics(cfg.Registerer)
	a.set(m)
	return a, nil
}

func (a *Authority) set(m *Material) {
	a.cur.Store(m)
	a.metrics.rootExpiry.Set(float64(m.Root.NotAfter.Unix()))
	a.metrics.signingExpiry.Set(float64(m.Cert.NotAfter.Unix()))
	a.cfg.Logger.Info("signing CA in force", "origin", m.Origin, "subject", m.Cert.Subject.String(),
		"until", m.Cert.NotAfter, "roots", len(m.Roots.Certs))

	// After the store: who is woken reads what is new.
	a.mu.Lock()
	close(a.changed)
	a.changed = make(chan struct{})
	a.mu.Unlock()
}

// Changed is closed when the signing CA or the roots change next.
func (a *Authority) Changed() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

// RootPEM is the trust bundle of the mesh.
func (a *Authority) RootPEM() []byte { return a.cur.Load().Roots.PEM() }

// Roots is the trust bundle of the mesh.
func (a *Authority) Roots() *identity.Bundle { return a.cur.Load().Roots }

// TrustDomain is that of the identities it signs.
func (a *Authority) TrustDomain() string { return a.cfg.TrustDomain }

// Run follows the Secret cacerts and publishes the root into every namespace,
// until ctx ends. It returns nil then; API errors are retried inside.
func (a *Authority) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.followPlugged(ctx) })
	g.Go(func() error { return newPublisher(a).run(ctx) })
	return g.Wait()
}

// RequestError is a request that the caller must mend: the CA will not sign it.
type RequestError struct{ Err error }

func (e *RequestError) Error() string { return "certificate request refused: " + e.Err.Error() }
func (e *RequestError) Unwrap() error { return e.Err }

// Sign signs a PEM certificate request for id, which the caller must have
// proven. The request may name id or nobody. The lifetime is ttl, but at most
// Config.MaxTTL, or the default when zero. The chain goes from the leaf over the
// intermediates to the root. What is wrong with the request comes as
// *RequestError.
func (a *Authority) Sign(csrPEM []byte, id identity.ID, ttl time.Duration) ([]string, error) {
	if err := id.Validate(); err != nil {
		return nil, &RequestError{err}
	}
	if id.TrustDomain != a.cfg.TrustDomain {
		return nil, &RequestError{fmt.Errorf("%s is not of trust domain %s", id, a.cfg.TrustDomain)}
	}
	if ttl < 0 {
		return nil, &RequestError{fmt.Errorf("lifetime %s is negative", ttl)}
	}
	if ttl == 0 {
		ttl = a.cfg.TTL
	}
	ttl = min(ttl, a.cfg.MaxTTL)

	csr, err := parseRequest(csrPEM, id)
	if err != nil {
		return nil, &RequestError{err}
	}

	// Loaded once, so that leaf and chain are of the same CA.
	m := a.cur.Load()
	leaf, err := m.leaf(csr.PublicKey, []*url.URL{id.URI()}, nil, ttl, time.Now())
	if err != nil {
		return nil, err
	}

	chain := append([]*x509.Certificate{leaf}, m.Intermediates...)
	chain = append(chain, m.Root)

	out := make([]string, len(chain))
	for i, c := range chain {
		out[i] = string(identity.EncodeCertificates([]*x509.Certificate{c}))
	}
	return out, nil
}
