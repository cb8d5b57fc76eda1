package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/mtls/mtlstest"
)

// put writes a file whose time of change is another one each time.
func put(t *testing.T, path string, text []byte, age time.Duration) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-age)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// TestFilesAreReadAgain: what files hold counts from the next handshake on, is the same
// value while they stay, and nothing counts any more once they are gone.
func TestFilesAreReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roots.pem")
	read := fileRoots(path)
	if _, err := read(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("error %v, want that there is no file", err)
	}

	put(t, path, []byte("nothing"), 3*time.Hour)
	if _, err := read(); err == nil {
		t.Fatal("a file without certificates is taken for roots")
	}
	put(t, path, onePEM(t), 2*time.Hour)
	first, err := read()
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := read(); again != first {
		t.Error("roots that are the same are another value")
	}
	put(t, path, onePEM(t), time.Hour)
	if next, err := read(); err != nil || next.Equal(first) {
		t.Errorf("other roots do not count (error %v)", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := read(); err == nil {
		t.Error("roots whose file is gone still count")
	}
}

// onePEM is a certificate of an authority that nobody knows.
func onePEM(t *testing.T) []byte {
	certPEM, _ := inPEM(t, mtlstest.NewCA(t, "unknown").IssueServer(time.Now().Add(time.Hour), "roots.example"))
	return certPEM
}

// inPEM is a certificate and its key as files hold them.
func inPEM(t *testing.T, cert *tls.Certificate) (certPEM, keyPEM []byte) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, der := range cert.Certificate {
		certPEM = append(certPEM, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return certPEM, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
}

// TestCertificateOfFiles: a client shows what its files hold, if they belong together.
func TestCertificateOfFiles(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	read := fileCertificate(cert, key)
	ca := mtlstest.NewCA(t, "root")
	certPEM, keyPEM := inPEM(t, ca.IssueServer(time.Now().Add(time.Hour), "a.example"))
	put(t, cert, certPEM, time.Hour)
	if _, err := read(); err == nil {
		t.Fatal("a certificate without a key is shown")
	}
	_, otherKey := inPEM(t, ca.IssueServer(time.Now().Add(time.Hour), "b.example"))
	put(t, key, otherKey, time.Hour)
	if _, err := read(); err == nil {
		t.Fatal("a certificate with another one's key is shown")
	}
	put(t, key, keyPEM, time.Minute)
	if got, err := read(); err != nil || len(got.Certificate) != 1 {
		t.Errorf("got %v, error %v", got, err)
	}
}

// TestBundledRoots: where the system has no roots, there are those of the bundle.
func TestBundledRoots(t *testing.T) {
	pool, err := bundledRoots()
	if err != nil || pool.Equal(x509.NewCertPool()) {
		t.Errorf("the bundle is empty (error %v)", err)
	}
}

// TestOrigination: TLS to a server that is not of the mesh stands only if its certificate
// leads to the roots and is for the name, whatever the reason is why it does not.
func TestOrigination(t *testing.T) {
	ca, other := mtlstest.NewCA(t, "root"), mtlstest.NewCA(t, "other")
	hour := time.Now().Add(time.Hour)
	roots := filepath.Join(t.TempDir(), "roots.pem")
	put(t, roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Cert.Raw}), time.Hour)
	fromFile := config.TrustRoots{Source: config.CertFile, Path: roots}
	name := func(kind config.MatchKind, value string) []config.SANMatch {
		return []config.SANMatch{{Type: config.SANDNS, Match: config.StringMatch{Kind: kind, Value: value}}}
	}

	for what, c := range map[string]struct {
		ctx    config.UpstreamTLS
		server *tls.Certificate
		ok     bool
	}{
		"right":                  {config.UpstreamTLS{Roots: fromFile, SANs: name(config.MatchExact, "a.example")}, ca.IssueServer(hour, "a.example"), true},
		"by a wildcard":          {config.UpstreamTLS{Roots: fromFile, SANs: name(config.MatchExact, "a.example.com")}, ca.IssueServer(hour, "*.example.com"), true},
		"below a name":           {config.UpstreamTLS{Roots: fromFile, SANs: name(config.MatchSuffix, ".example.com")}, ca.IssueServer(hour, "a.example.com"), true},
		"another name":           {config.UpstreamTLS{Roots: fromFile, SANs: name(config.MatchExact, "a.example")}, ca.IssueServer(hour, "b.example"), false},
		"not below the name":     {config.UpstreamTLS{Roots: fromFile, SANs: name(config.MatchSuffix, ".example.com")}, ca.IssueServer(hour, "evil-example.com"), false},
		"other roots":            {config.UpstreamTLS{Roots: fromFile, SANs: name(config.MatchExact, "a.example")}, other.IssueServer(hour, "a.example"), false},
		"no roots":               {config.UpstreamTLS{Roots: config.TrustRoots{Source: config.CertFile, Path: roots + ".gone"}, SANs: name(config.MatchExact, "a.example")}, ca.IssueServer(hour, "a.example"), false},
		"not of the system":      {config.UpstreamTLS{Roots: config.TrustRoots{Source: config.CertSystem}, SANs: name(config.MatchExact, "a.example")}, ca.IssueServer(hour, "a.example"), false},
		"expired":                {config.UpstreamTLS{Roots: fromFile, SANs: name(config.MatchExact, "a.example")}, ca.IssueServer(time.Now().Add(-time.Minute), "a.example"), false},
		"whoever, as was wanted": {config.UpstreamTLS{}, other.IssueServer(hour, "b.example"), true},
		"no certificate to show": {config.UpstreamTLS{Cert: config.CertFile, CertPath: roots, KeyPath: roots + ".gone"}, ca.IssueServer(hour, "a.example"), false},
	} {
		t.Run(what, func(t *testing.T) {
			c.ctx.SNI = "a.example"
			client, err := NewClient(&c.ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			a, b := pipe(t)
			auth := tls.NoClientCert
			if c.ctx.Cert == config.CertFile {
				auth = tls.RequireAnyClientCert
			}
			server := tls.Server(b, &tls.Config{Certificates: []tls.Certificate{*c.server}, ClientAuth: auth})
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = server.Handshake()
				b.Close()
			}()
			err = tls.Client(a, client.Config(config.ProtocolHTTP1, "")).Handshake()
			a.Close()
			<-done
			if (err == nil) != c.ok {
				t.Errorf("error %v, want the connection to stand: %v", err, c.ok)
			}
		})
	}
}
