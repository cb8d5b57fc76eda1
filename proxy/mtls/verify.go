package mtls

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// maxVerified bounds how many leaf certificates a verifier remembers: peers
// choose how many they show.
const maxVerified = 4096

// verifier judges the certificates of peers under one TLS context. A chain
// that led to the current roots once is remembered until the roots change or
// a certificate of it expires, so that resumed and repeated handshakes cost a
// look-up. Safe for concurrent use.
type verifier struct {
	roots func() (*x509.CertPool, error)
	sans  []config.SANMatch
	usage x509.ExtKeyUsage
	now   func() time.Time

	mu     sync.Mutex     // guards what follows
	pool   *x509.CertPool // roots that passed was filled under
	epoch  uint64         // counts changes of pool
	passed map[[sha256.Size]byte]time.Time
}

// verify checks the state of a finished handshake. required tells whether
// the peer has to have sent a certificate.
func (v *verifier) verify(cs *tls.ConnectionState, required bool) error {
	if len(cs.PeerCertificates) == 0 {
		if !required {
			return nil
		}
		return &VerifyError{Reason: ReasonNoCertificate, Err: errors.New("it sent no certificate")}
	}

	leaf := cs.PeerCertificates[0]
	if err := v.chain(leaf, cs.PeerCertificates[1:]); err != nil {
		return err
	}

	if len(v.sans) > 0 && !matchSANs(v.sans, leaf) {
		return &VerifyError{
			Reason: ReasonSANMismatch, Peer: peerName(leaf),
			Err: fmt.Errorf("none of its names is one of those expected here: %s", describeSANs(v.sans)),
		}
	}
	return nil
}

// chain checks that the leaf leads to the current roots and is in force.
func (v *verifier) chain(leaf *x509.Certificate, rest []*x509.Certificate) error {
	pool, err := v.roots()
	if err != nil {
		return &VerifyError{Reason: ReasonNoIdentity, Peer: peerName(leaf), Err: err}
	}

	now := v.now()
	key := sha256.Sum256(leaf.Raw)
	if v.known(pool, key, now) {
		return nil
	}

	inter := x509.NewCertPool()
	for _, c := range rest {
		inter.AddCert(c)
	}

	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: pool, Intermediates: inter, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{v.usage},
	})
	if err != nil {
		return &VerifyError{Reason: chainReason(err), Peer: peerName(leaf), Err: err}
	}

	// What is remembered ends with the first certificate of the chain that does.
	until := leaf.NotAfter
	for _, c := range chains[0] {
		if c.NotAfter.Before(until) {
			until = c.NotAfter
		}
	}
	v.remember(pool, key, until)
	return nil
}

func (v *verifier) known(pool *x509.CertPool, key [sha256.Size]byte, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.pool != pool {
		return false
	}
	until, ok := v.passed[key]
	return ok && now.Before(until)
}

func (v *verifier) remember(pool *x509.CertPool, key [sha256.Size]byte, until time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.enterLocked(pool)
	// To begin anew is cheaper than to know which is the oldest: each costs one
	// verification.
	if len(v.passed) >= maxVerified || v.passed == nil {
		v.passed = map[[sha256.Size]byte]time.Time{}
	}
	v.passed[key] = until
}

// enterLocked forgets what was verified under other roots.
func (v *verifier) enterLocked(pool *x509.CertPool) {
	if v.pool != pool {
		v.pool, v.passed = pool, nil
		v.epoch++
	}
}

// matchSANs tells whether any name of the certificate is matched by any of
// the matchers.
func matchSANs(sans []config.SANMatch, leaf *x509.Certificate) bool {
	for i := range sans {
		if matchSAN(&sans[i], leaf) {
			return true
		}
	}
	return false
}

func matchSAN(m *config.SANMatch, leaf *x509.Certificate) bool {
	if m.Type == config.SANAny || m.Type == config.SANURI {
		for _, u := range leaf.URIs {
			if m.Match.Match(u.String()) {
				return true
			}
		}
	}

	if m.Type == config.SANAny || m.Type == config.SANDNS {
		for _, d := range leaf.DNSNames {
			if matchDNS(&m.Match, d) {
				return true
			}
		}
	}

	if m.Type == config.SANAny || m.Type == config.SANEmail {
		for _, e := range leaf.EmailAddresses {
			if m.Match.Match(e) {
				return true
			}
		}
	}

	if m.Type == config.SANAny || m.Type == config.SANIP {
		for _, ip := range leaf.IPAddresses {
			if m.Match.Match(ip.String()) {
				return true
			}
		}
	}
	return false
}

// matchDNS matches a DNS name of a certificate; an exact matcher honours a
// wildcard in the certificate's left-most label (RFC 9525, section 6.3).
func matchDNS(m *config.StringMatch, name string) bool {
	if m.Match(name) {
		return true
	}
	suffix, wild := strings.CutPrefix(name, "*")
	if !wild || m.Kind != config.MatchExact {
		return false
	}
	first, rest, found := strings.Cut(m.Value, ".")
	return found && first != "" && strings.EqualFold("."+rest, suffix)
}

// describeSANs writes matchers for a message.
func describeSANs(sans []config.SANMatch) string {
	var parts []string
	for i := range sans {
		if i == 8 {
			parts = append(parts, fmt.Sprintf("and %d more", len(sans)-i))
			break
		}

		m := &sans[i].Match
		switch m.Kind {
		case config.MatchExact:
			parts = append(parts, m.Value)
		case config.MatchPrefix:
			parts = append(parts, m.Value+"…")
		case config.MatchAny:
			parts = append(parts, "any")
		default:
			parts = append(parts, "pattern "+m.Value)
		}
	}

	return strings.Join(parts, ", ")
}
