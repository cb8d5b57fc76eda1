package config

import (
	"errors"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
)

// TestFilesOfClusters: a cluster may name files, which need not be there yet, and the
// system's roots by the file in which they are.
func TestFilesOfClusters(t *testing.T) {
	const cluster = `{"name": "c", "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": {
		"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", "sni": "a.example",
		"common_tls_context": %}}}`
	const files = `"tls_certificates": [{"certificate_chain": {"filename": "/tls.crt"}, "private_key": {"filename": "/tls.key"}}]`
	for name, c := range map[string]struct {
		context string
		cert    CertSource
		roots   TrustRoots
		refused bool
	}{
		"roots":            {`{"validation_context": {"trusted_ca": {"filename": "/ca.pem"}}}`, CertNone, TrustRoots{Source: CertFile, Path: "/ca.pem"}, false},
		"the system's":     {`{"validation_context": {"trusted_ca": {"filename": "/etc/ssl/certs/ca-certificates.crt"}}}`, CertNone, TrustRoots{Source: CertSystem}, false},
		"a certificate":    {`{` + files + `}`, CertFile, TrustRoots{}, false},
		"in part":          {`{"tls_certificates": [{"certificate_chain": {"filename": "/tls.crt"}}]}`, 0, TrustRoots{}, true},
		"names, no roots":  {`{"validation_context": {"match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "a"}}]}}`, 0, TrustRoots{}, true},
		"the environment":  {`{"validation_context": {"trusted_ca": {"environment_variable": "CA"}}}`, 0, TrustRoots{}, true},
		"a list of others": {`{"validation_context": {"trusted_ca": {"filename": "/ca.pem"}, "crl": {"filename": "/crl.pem"}}}`, 0, TrustRoots{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := DecodeCluster(pack(t, &clusterv3.Cluster{}, strings.Replace(cluster, "%", c.context, 1)))
			switch {
			case (err != nil) != c.refused:
				t.Fatalf("error %v, want one: %v", err, c.refused)
			case err != nil:
				return
			}
			tls := got.Transport.TLS
			if tls.Cert != c.cert || tls.Roots != c.roots || c.cert == CertFile && (tls.CertPath != "/tls.crt" || tls.KeyPath != "/tls.key") {
				t.Errorf("got %+v", tls)
			}
		})
	}
}

// TestFilesOfListeners: a listener with files is refused, and told where.
func TestFilesOfListeners(t *testing.T) {
	_, err := DecodeListener(pack(t, &listenerv3.Listener{}, `{"name": "l", "address": {"socket_address": {"address": "0.0.0.0", "port_value": 15006}},
		"filter_chains": [{"filters": [], "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": {
		"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", "common_tls_context": {
		"tls_certificates": [{"certificate_chain": {"filename": "/tls.crt"}, "private_key": {"filename": "/tls.key"}}]}}}}]}`))
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(e.Field, "common_tls_context") {
		t.Errorf("error %v, want one of common_tls_context", err)
	}
}
