package ca_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	securityapi "istio.io/api/security/v1alpha1"
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/isthmus-mesh/isthmus/ca"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/test/leak"
)

const serverName = "istiod.istio-system.svc"

// mesh is a CA behind TLS on loopback, whose API server knows some tokens.
type mesh struct {
	t         *testing.T
	authority *ca.Authority
	auth      *ca.Authenticator
	reviews   atomic.Int64
	addr      string
	server    *grpc.Server
	dir       string
}

// tokens are what the API server answers: user name by token and audience.
func (m *mesh) review(action clienttesting.Action) (bool, runtime.Object, error) {
	m.reviews.Add(1)
	tr := action.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview).DeepCopy()
	user, audiences := "", []string{identity.TokenAudience}
	switch tr.Spec.Token {
	case "good":
		user = "system:serviceaccount:foo:default"
	case "other":
		user = "system:serviceaccount:foo:other"
	case "person":
		user = "alice"
	case "first-party":
		user, audiences = "system:serviceaccount:foo:default", []string{"https://kubernetes.default.svc"}
	}
	if len(tr.Spec.Audiences) > 0 && !slices.Contains(audiences, tr.Spec.Audiences[0]) {
		user = ""
	}
	tr.Status = authenticationv1.TokenReviewStatus{Authenticated: user != "", User: authenticationv1.UserInfo{Username: user}}
	if user != "" && len(tr.Spec.Audiences) > 0 {
		tr.Status.Audiences = audiences
	}
	return true, tr, nil
}

func newMesh(t *testing.T, policy string) *mesh {
	t.Helper()
	m := &mesh{t: t, dir: t.TempDir()}
	client := fake.NewClientset(secret(files(t, newRoot(t), "c1")))
	client.PrependReactor("create", "tokenreviews", m.review)
	var err error
	m.authority, err = ca.Load(t.Context(), client, ca.Config{})
	check(t, err)
	m.auth, err = ca.NewAuthenticator(client, ca.AuthConfig{JWTPolicy: policy})
	check(t, err)
	m.server = grpc.NewServer(grpc.Creds(credentials.NewTLS(m.authority.ServerTLS([]string{serverName}))))
	ca.NewService(m.authority, m.auth).Register(m.server)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	m.addr = lis.Addr().String()
	go m.server.Serve(lis)
	t.Cleanup(func() {
		m.server.Stop()
		leak.None(t)
	})
	m.write("root-cert.pem", string(m.authority.RootPEM()))
	m.write("token", "good")
	return m
}

func (m *mesh) write(name, data string) {
	m.t.Helper()
	check(m.t, os.WriteFile(filepath.Join(m.dir, name), []byte(data), 0o600))
}

func (m *mesh) source() *identity.Source {
	m.t.Helper()
	s, err := identity.NewSource(identity.Config{
		ID:         identity.ID{TrustDomain: "cluster.local", Namespace: "foo", ServiceAccount: "default"},
		CA:         &identity.CAClient{Address: m.addr, TokenFile: filepath.Join(m.dir, "token")},
		ServerName: serverName,
		RootFile:   filepath.Join(m.dir, "root-cert.pem"),
		StateDir:   m.dir,
		Poll:       20 * time.Millisecond,
		Logger:     slog.New(slog.DiscardHandler),
	})
	check(m.t, err)
	return s
}

// run runs a source until the test ends or the returned function is called.
func (m *mesh) run(s *identity.Source) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	m.t.Cleanup(stop)
	return stop
}

func TestCertificateOverTheWire(t *testing.T) {
	m := newMesh(t, "")
	s := m.source()
	if s.Certificate() != nil || s.Err() == nil {
		t.Error("there is a certificate before the first request")
	}
	stop := m.run(s)
	eventually(t, "a certificate", func() bool { return s.Certificate() != nil })
	cert := s.Certificate()
	if len(cert.Certificate) != 2 {
		t.Errorf("chain of %d, want leaf and intermediate", len(cert.Certificate))
	}
	if id, err := identity.OfCertificate(cert.Leaf); err != nil || id != s.ID() {
		t.Errorf("certificate is for %v, %v", id, err)
	}
	check(t, s.Err())
	info, err := os.Stat(filepath.Join(m.dir, "identity.pem"))
	check(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("kept key has mode %v", info.Mode())
	}
	stop()

	// A restarted container with the CA away.
	m.server.Stop()
	again := m.source()
	if c := again.Certificate(); c == nil || !c.Leaf.Equal(cert.Leaf) {
		t.Error("the kept certificate was not taken up")
	}
	// With another root it is worth nothing.
	m.write("root-cert.pem", string(newRoot(t).CertPEM()))
	if m.source().Certificate() != nil {
		t.Error("a kept certificate of another root was taken up")
	}
}

func TestRefusalsOverTheWire(t *testing.T) {
	for token, says := range map[string]string{
		"unknown":     "not accepted for audience istio-ca",
		"person":      `user "alice"'s`,
		"first-party": "not accepted for audience",
		"":            "there is no service account token in ",
	} {
		t.Run(token, func(t *testing.T) {
			m := newMesh(t, "")
			m.write("token", token)
			s := m.source()
			m.run(s)
			eventually(t, "a refusal that says "+says, func() bool {
				err := s.Err()
				return err != nil && strings.Contains(err.Error(), says)
			})
			if s.Certificate() != nil {
				t.Error("got a certificate")
			}
		})
	}
}

func TestServerOfAnotherRootIsRefused(t *testing.T) {
	m := newMesh(t, "")
	m.write("root-cert.pem", string(newRoot(t).CertPEM()))
	s := m.source()
	m.run(s)
	eventually(t, "an error about the authority", func() bool {
		return s.Err() != nil && strings.Contains(s.Err().Error(), "certificate signed by unknown authority")
	})
	if n := m.reviews.Load(); n != 0 {
		t.Errorf("the token was shown to the stranger (%d reviews)", n)
	}
	// The right root arrives.
	m.write("root-cert.pem", string(m.authority.RootPEM()))
	eventually(t, "a certificate", func() bool { return s.Certificate() != nil })
	// A damaged file leaves the last good bundle.
	m.write("root-cert.pem", "-----BEGIN")
	time.Sleep(60 * time.Millisecond)
	if s.Roots() == nil {
		t.Error("the bundle was lost")
	}
}

func TestFirstPartyTokens(t *testing.T) {
	m := newMesh(t, identity.JWTFirstParty)
	m.write("token", "first-party")
	s := m.source()
	m.run(s)
	eventually(t, "a certificate", func() bool { return s.Certificate() != nil })
}

// A certificate is no way to the next one: it would renew itself for ever, long
// after its pod is gone, and with it whoever has stolen it.
func TestRenewalNeedsTheToken(t *testing.T) {
	m := newMesh(t, "")
	s := m.source()
	m.run(s)
	eventually(t, "a certificate", func() bool { return s.Certificate() != nil })

	for name, tt := range map[string]struct {
		token string
		req   *securityapi.IstioCertificateRequest
		code  codes.Code
		says  string
	}{
		"certificate alone": {
			req:  &securityapi.IstioCertificateRequest{Csr: request(t)},
			code: codes.Unauthenticated, says: "a certificate alone does not renew itself",
		},
		"certificate and a bad token": {
			token: "unknown",
			req:   &securityapi.IstioCertificateRequest{Csr: request(t)},
			code:  codes.Unauthenticated, says: "not accepted for audience",
		},
		"certificate and another's token": {
			token: "other",
			req:   &securityapi.IstioCertificateRequest{Csr: request(t)},
			code:  codes.Unauthenticated, says: "the client certificate is of spiffe://cluster.local/ns/foo/sa/default, the token of spiffe://cluster.local/ns/foo/sa/other",
		},
		"both": {
			token: "good",
			req:   &securityapi.IstioCertificateRequest{Csr: request(t)},
		},
		"a very long life": {
			token: "good",
			req:   &securityapi.IstioCertificateRequest{Csr: request(t), ValidityDuration: 1 << 62},
		},
		"a negative life": {
			token: "good",
			req:   &securityapi.IstioCertificateRequest{Csr: request(t), ValidityDuration: -1 << 62},
			code:  codes.InvalidArgument, says: "negative",
		},
		"garbage": {
			token: "good",
			req:   &securityapi.IstioCertificateRequest{Csr: "x"},
			code:  codes.InvalidArgument, says: "no PEM",
		},
	} {
		cfg, err := s.DiscoveryTLS()
		check(t, err)
		_, err = m.call(cfg, tt.token, tt.req)
		if status.Code(err) != tt.code || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want %s that says %q", name, err, tt.code, tt.says)
		}
	}
}

// call asks for a certificate over a connection of its own.
func (m *mesh) call(cfg *tls.Config, token string, req *securityapi.IstioCertificateRequest) (*securityapi.IstioCertificateResponse, error) {
	m.t.Helper()
	conn, err := grpc.NewClient(m.addr, grpc.WithTransportCredentials(credentials.NewTLS(cfg)))
	check(m.t, err)
	defer conn.Close()
	ctx := m.t.Context()
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	return securityapi.NewIstioCertificateServiceClient(conn).CreateCertificate(ctx, req)
}

// A proxy that has lost its token goes on with the certificate that it has, and
// says what is missing.
func TestLostTokenIsSaid(t *testing.T) {
	m := newMesh(t, "")
	s, err := identity.NewSource(identity.Config{
		ID:         identity.ID{TrustDomain: "cluster.local", Namespace: "foo", ServiceAccount: "default"},
		CA:         &identity.CAClient{Address: m.addr, TokenFile: filepath.Join(m.dir, "token")},
		ServerName: serverName,
		RootFile:   filepath.Join(m.dir, "root-cert.pem"),
		TTL:        10 * time.Second, // renewed at half of it, and that leaves a slow machine 5 s
	})
	check(t, err)
	m.run(s)
	eventually(t, "a certificate", func() bool { return s.Certificate() != nil })

	check(t, os.Remove(filepath.Join(m.dir, "token")))
	eventually(t, "a word about the token", func() bool {
		return s.Err() != nil && strings.Contains(s.Err().Error(), filepath.Join(m.dir, "token"))
	})
	if s.Certificate() == nil {
		t.Error("the certificate is gone")
	}
	m.write("token", "good")
	eventually(t, "a certificate again", func() bool { return s.Err() == nil })
}

func TestTokenFileMustBeNamed(t *testing.T) {
	_, err := identity.NewSource(identity.Config{
		ID:       identity.ID{TrustDomain: "cluster.local", Namespace: "foo", ServiceAccount: "default"},
		CA:       &identity.CAClient{Address: "127.0.0.1:1"},
		RootFile: "root-cert.pem",
	})
	if err == nil || !strings.Contains(err.Error(), "no service account token file") {
		t.Errorf("got %v", err)
	}
}

// A stream of resources is proven by the certificate; a token beside it does
// not count and is not looked at.
func TestCertificateProvesTheCallerOfAStream(t *testing.T) {
	m := newMesh(t, "")
	s := m.source()
	m.run(s)
	eventually(t, "a certificate", func() bool { return s.Certificate() != nil })
	before := m.reviews.Load()

	ctx := peer.NewContext(t.Context(), &peer.Peer{AuthInfo: credentials.TLSInfo{State: tls.ConnectionState{
		VerifiedChains: [][]*x509.Certificate{{s.Certificate().Leaf}},
	}}})
	ctx = metadata.NewIncomingContext(ctx, metadata.Pairs("authorization", "Bearer unknown"))
	proof, err := m.auth.Authenticate(ctx)
	check(t, err)
	if proof.ID != s.ID() || proof.Cluster != "" {
		t.Errorf("the caller is %+v, want %s", proof, s.ID())
	}
	if n := m.reviews.Load() - before; n != 0 {
		t.Errorf("%d reviews for a caller with a certificate", n)
	}
}

// request is a request without a name, which the CA fills in.
func request(t *testing.T) string {
	t.Helper()
	return string(csr(t, &x509.CertificateRequest{}))
}

func TestRenewal(t *testing.T) {
	m := newMesh(t, "")
	s, err := identity.NewSource(identity.Config{
		ID:         identity.ID{TrustDomain: "cluster.local", Namespace: "foo", ServiceAccount: "default"},
		CA:         &identity.CAClient{Address: m.addr, TokenFile: filepath.Join(m.dir, "token")},
		ServerName: serverName,
		RootFile:   filepath.Join(m.dir, "root-cert.pem"),
		TTL:        10 * time.Second, // renewed at half of it, and that leaves a slow machine 5 s
	})
	check(t, err)
	m.run(s)
	eventually(t, "a certificate", func() bool { return s.Certificate() != nil })
	first, changed := s.Certificate(), s.Changed()
	select {
	case <-changed:
	case <-time.After(20 * time.Second):
		t.Fatal("no renewal")
	}
	if s.Certificate().Leaf.Equal(first.Leaf) || time.Now().After(first.Leaf.NotAfter) {
		t.Error("not renewed in time")
	}
}
