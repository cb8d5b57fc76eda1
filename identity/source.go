package identity

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what a [Source] needs.
type Config struct {
	// ID is whom the certificate is for.
	ID ID
	// CA says how to reach the CA, and where the token is that it asks for. Its
	// TLS field is filled by NewSource when nil.
	CA *CAClient
	// Signer replaces CA when set.
	Signer Signer
	// ServerName is the DNS name that the CA's and discovery's certificate
	// must carry.
	ServerName string
	// RootFile is the trust bundle. The file is followed: an edit of the
	// ConfigMap behind it counts without a restart.
	RootFile string
	// StateDir, when set, keeps key and certificate, so that a restarted
	// container has them although the CA is away. It should be in memory.
	StateDir string
	// TTL is the lifetime asked for; 24 h when zero.
	TTL time.Duration
	// Poll is how often RootFile is looked at; 2 s when zero.
	Poll   time.Duration
	Logger *slog.Logger
}

func (c *Config) validate() error {
	if err := c.ID.Validate(); err != nil {
		return err
	}
	if c.RootFile == "" {
		return errors.New("no root file is named")
	}
	if c.Signer == nil && (c.CA == nil || c.CA.Address == "") {
		return errors.New("no CA address is named")
	}
	if c.Signer == nil && c.CA.TokenFile == "" {
		return errors.New("no service account token file is named: the CA signs for nobody who does not show a token")
	}
	if c.TTL < 0 || c.Poll < 0 {
		return errors.New("TTL and Poll cannot be negative")
	}
	if c.TTL == 0 {
		c.TTL = 24 * time.Hour
	}
	if c.Poll == 0 {
		c.Poll = 2 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Source keeps one workload's certificate and trust bundle current. All methods
// may be called from several goroutines; before [Source.Run] has got the first
// certificate, Certificate is nil.
type Source struct {
	cfg    Config
	signer Signer
	cert   atomic.Pointer[tls.Certificate]
	bundle atomic.Pointer[Bundle]

	mu      sync.Mutex // guards what follows
	changed chan struct{}
	err     error

	// Run's goroutine only:
	rootFile []byte    // the last read, good or bad
	issued   time.Time // when the certificate came; zero for a kept one
}

// NewSource checks cfg, and reads the root file and the kept certificate if they
// are there already.
func NewSource(cfg Config) (*Source, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("identity source: %w", err)
	}

	s := &Source{cfg: cfg, signer: cfg.Signer, changed: make(chan struct{})}
	if s.signer == nil {
		ca := *cfg.CA
		if ca.TLS == nil {
			ca.TLS = s.caTLS
		}
		s.signer = &ca
	}

	s.setErr(errors.New("no certificate yet"))
	s.readRoots()
	s.loadKept()
	return s, nil
}

// Certificate is the current one, or nil before the first. It is never written.
func (s *Source) Certificate() *tls.Certificate { return s.cert.Load() }

// Roots is the current trust bundle, or nil before the first.
func (s *Source) Roots() *x509.CertPool {
	if b := s.bundle.Load(); b != nil {
		return b.Pool
	}
	return nil
}

// Bundle is the current trust bundle with its certificates, or nil.
func (s *Source) Bundle() *Bundle { return s.bundle.Load() }

// ID is whom the certificate is for.
func (s *Source) ID() ID { return s.cfg.ID }

// Changed is closed at the next change of certificate or bundle. Take it
// before reading either, and no change is missed.
func (s *Source) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Err says why the last attempt to get a certificate failed; nil when the
// certificate is in order.
func (s *Source) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *Source) setErr(err error) {
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
}

func (s *Source) notify() {
	s.mu.Lock()
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
}

// Run gets the certificate, renews it, and follows the root file until ctx
// ends. It returns nil then, and never before: every failure is retried.
func (s *Source) Run(ctx context.Context) error {
	// The kubelet exchanges mounted files by a symbolic link beside them
	// (..data), which a watch on a file does not see.
	poll := time.NewTicker(s.cfg.Poll)
	defer poll.Stop()

	attempt := 0
	next := time.NewTimer(s.untilRenewal())
	defer next.Stop()

	for {
		select {
		case <-ctx.Done():
			return nil
		case <-poll.C:
			if s.readRoots() && !s.trusted() {
				// The mesh's root has changed under the certificate: nobody
				// believes it any more.
				attempt = 0
				next.Reset(jitter(s.cfg.Poll))
			}
		case <-next.C:
			if err := s.renew(ctx); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				wait := backoff(attempt)
				attempt++
				s.setErr(err)
				s.cfg.Logger.Warn("cannot get a certificate", "identity", s.cfg.ID.String(), "error", err, "retry", wait)
				next.Reset(wait)
				continue
			}
			attempt = 0
			next.Reset(s.untilRenewal())
		}
	}
}

// minRenewal is the least time between a certificate and the request for the
// next, however short-lived a CA makes them.
const minRenewal = time.Second

// trusted tells whether the current certificate verifies by the current bundle.
func (s *Source) trusted() bool {
	cert, bundle := s.cert.Load(), s.bundle.Load()
	return cert != nil && bundle != nil && verifyChain(cert, bundle, s.cfg.ID, time.Now()) == nil
}

// untilRenewal is the time to the next request: none without a certificate
// that is worth keeping.
func (s *Source) untilRenewal() time.Duration {
	cert := s.cert.Load()
	if cert == nil || !s.trusted() {
		return 0
	}

	// A CA dates certificates back, for clocks that are slow.
	from := cert.Leaf.NotBefore
	if s.issued.After(from) {
		from = s.issued
	}
	return max(minRenewal, time.Until(renewAt(from, cert.Leaf.NotAfter, rand.Float64())))
}

// renew asks for a certificate and puts it into force.
func (s *Source) renew(ctx context.Context) error {
	s.readRoots()
	bundle := s.bundle.Load()
	if bundle == nil {
		return fmt.Errorf("trust bundle %s is not there: discovery publishes it as ConfigMap istio-ca-root-cert in every namespace", s.cfg.RootFile)
	}

	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()

	// A new key for each certificate: one that leaked is of use for a day.
	key, csr, err := newRequest(s.cfg.ID)
	if err != nil {
		return err
	}

	chain, err := s.signer.Sign(ctx, csr, s.cfg.TTL)
	if err != nil {
		return err
	}

	cert, err := assemble(key, chain)
	if err != nil {
		return fmt.Errorf("the CA's answer: %w", err)
	}
	if err := verifyChain(cert, bundle, s.cfg.ID, time.Now()); err != nil {
		return fmt.Errorf("the CA's certificate, checked by %s: %w", s.cfg.RootFile, err)
	}

	// First the file, then the memory: whoever sees the certificate here finds
	// it after a restart, too.
	if err := s.keep(cert); err != nil {
		s.cfg.Logger.Warn("cannot keep the certificate for a restart", "error", err)
	}

	s.issued = time.Now()
	s.put(cert)
	s.cfg.Logger.Info("got a certificate", "identity", s.cfg.ID.String(), "until", cert.Leaf.NotAfter)
	return nil
}

// put brings a certificate into force and tells those who wait for it. The
// lock makes it one step with what Err says.
func (s *Source) put(cert *tls.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cert.Store(cert)
	s.err = nil
	close(s.changed)
	s.changed = make(chan struct{})
}

// readRoots reads the root file, and tells whether a new bundle is in force. A
// missing or damaged file leaves the last good one.
func (s *Source) readRoots() bool {
	data, err := os.ReadFile(s.cfg.RootFile)
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			s.cfg.Logger.Warn("cannot read the trust bundle", "error", err)
		}
		return false
	}
	if bytes.Equal(data, s.rootFile) {
		return false
	}
	s.rootFile = data // a damaged one, too: it is told of once

	bundle, err := ParseBundle(data)
	if err != nil {
		s.cfg.Logger.Error("trust bundle refused, the last good one stays", "file", s.cfg.RootFile, "error", err)
		return false
	}

	s.bundle.Store(bundle)
	s.cfg.Logger.Info("trust bundle read", "file", s.cfg.RootFile, "roots", len(bundle.Certs))
	s.notify()
	return true
}
