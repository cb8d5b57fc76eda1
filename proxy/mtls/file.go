package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// stamp tells whether a file is another one than before, as far as its directory says.
type stamp struct {
	changed time.Time
	size    int64
}

func stampOf(path string) (stamp, error) {
	info, err := os.Stat(path) // of what a symbolic link leads to: Secrets are mounted so
	if err != nil {
		return stamp{}, err
	}
	return stamp{info.ModTime(), info.Size()}, nil
}

// onChange reads files when they are asked for, and again when one of them has changed. It
// gives the same value while they have not, because sessions are resumed, and chains known,
// by it. A file that cannot be read is an error each time, whatever there was before.
func onChange[T any](read func() (T, error), paths ...string) func() (T, error) {
	var mu sync.Mutex // guards what follows
	var last T
	var known []stamp
	return func() (none T, err error) {
		mu.Lock()
		defer mu.Unlock()

		same := known != nil
		now := make([]stamp, len(paths))
		for i, path := range paths {
			if now[i], err = stampOf(path); err != nil {
				return none, err
			}
			same = same && now[i] == known[i]
		}
		if same {
			return last, nil
		}
		if last, err = read(); err != nil {
			known = nil
			return none, err
		}
		known = now
		return last, nil
	}
}

// fileCertificate returns a getter of a certificate in files. Handshakes fail while they
// are missing, or do not belong together.
func fileCertificate(certPath, keyPath string) func() (*tls.Certificate, error) {
	return onChange(func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(certPath, keyPath)
		if err != nil {
			return nil, fmt.Errorf("the certificate in %s and its key in %s are of no use: %w", certPath, keyPath, err)
		}
		return &pair, nil
	}, certPath, keyPath)
}

// fileRoots returns a getter of roots in a file.
func fileRoots(path string) func() (*x509.CertPool, error) {
	return onChange(func() (*x509.CertPool, error) {
		pem, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM", path)
		}
		return pool, nil
	}, path)
}

// systemRoots are the roots of the system, and where it has none, as the images of the
// proxy, which hold nothing but its binary, those of Mozilla. They are parsed when the
// first connection needs them: most proxies have none.
func systemRoots() (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err == nil && !pool.Equal(x509.NewCertPool()) {
		return pool, nil
	}
	return bundledRoots()
}

func bundledRoots() (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	for root := range bundle.Roots() {
		cert, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			return nil, fmt.Errorf("a root of the bundle: %w", err)
		}
		if root.Constraint == nil {
			pool.AddCert(cert)
		} else {
			pool.AddCertWithConstraint(cert, root.Constraint)
		}
	}
	return pool, nil
}
