package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"sync"
	"time"
)

// sessionAge bounds how old a session may be that a client resumes: well
// below the life of a certificate, so that its expiry is met by a full
// handshake, not by a refusal.
const sessionAge = time.Hour

// session is a tls.ClientSessionCache with room for the last ticket: it
// belongs to one endpoint, so the key does not matter. A session made with
// another certificate of ours, or judged by other roots, is not resumed.
type session struct {
	own    func() (*tls.Certificate, error)
	verify *verifier
	now    func() time.Time

	mu    sync.Mutex // guards what follows
	last  *tls.ClientSessionState
	cert  *tls.Certificate // that last was made with
	roots *x509.CertPool   // that last was judged by
	made  time.Time
}

// Get implements tls.ClientSessionCache.
func (s *session) Get(string) (*tls.ClientSessionState, bool) {
	cert, roots := s.current()
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.last == nil || s.cert != cert || s.roots != roots || s.now().Sub(s.made) > sessionAge {
		return nil, false
	}
	return s.last, true
}

// Put implements tls.ClientSessionCache.
func (s *session) Put(_ string, t *tls.ClientSessionState) {
	cert, roots := s.current()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last, s.cert, s.roots, s.made = t, cert, roots, s.now()
}

// current returns our certificate and roots as they are now.
func (s *session) current() (cert *tls.Certificate, roots *x509.CertPool) {
	if s.own != nil {
		cert, _ = s.own()
	}
	if s.verify != nil {
		roots, _ = s.verify.roots()
	}
	return cert, roots
}

// Forget drops the session of a configuration that [Client.Config] made, so
// that the next handshake is a full one.
func Forget(c *tls.Config) {
	if c.ClientSessionCache != nil {
		c.ClientSessionCache.Put("", nil)
	}
}

// stampTickets writes into session tickets under which roots the peer was
// verified and until when its certificate is in force. A ticket that is not
// good any more is passed over: a full handshake follows, in which the peer
// shows its certificate of today.
func (v *verifier) stampTickets(c *tls.Config) {
	c.WrapSession = func(cs tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
		ss.Extra = append(ss.Extra, v.stamp(&cs))
		return c.EncryptTicket(cs, ss)
	}
	c.UnwrapSession = func(ticket []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		ss, err := c.DecryptTicket(ticket, cs)
		if err != nil || ss == nil || !v.good(ss.Extra) {
			return nil, nil // not an error: it asks for a full handshake
		}
		return ss, nil
	}
}

// stampLen is the length of a stamp, in bytes: two numbers of eight.
const stampLen = 16

// stamp is the epoch of the roots and the end of the peer's certificate.
func (v *verifier) stamp(cs *tls.ConnectionState) []byte {
	until := v.now().Add(sessionAge)
	if len(cs.PeerCertificates) > 0 {
		until = cs.PeerCertificates[0].NotAfter
	}

	out := binary.BigEndian.AppendUint64(make([]byte, 0, stampLen), v.currentEpoch())
	return binary.BigEndian.AppendUint64(out, uint64(until.Unix()))
}

// good tells whether the stamp of a ticket, its last extra, still holds.
func (v *verifier) good(extra [][]byte) bool {
	if len(extra) == 0 || len(extra[len(extra)-1]) != stampLen {
		return false
	}

	b := extra[len(extra)-1]
	until := time.Unix(int64(binary.BigEndian.Uint64(b[8:])), 0)
	return binary.BigEndian.Uint64(b) == v.currentEpoch() && v.now().Before(until)
}

// currentEpoch counts the changes of the roots so far: a ticket cannot hold a
// pointer.
func (v *verifier) currentEpoch() uint64 {
	pool, err := v.roots()
	if err != nil {
		return 0
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.enterLocked(pool)
	return v.epoch
}
