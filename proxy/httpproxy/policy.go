package httpproxy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"net/url"
	"strings"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
	"github.com/isthmus-mesh/isthmus/proxy/exchange"
)

// newEdge collects what a connection says of its caller.
func newEdge(hcm *config.HCM, info *downstream.Info) exchange.Edge {
	return exchange.Edge{Scheme: schemeOf(info), Peer: info.Peer.Addr().String(), Cert: newClientCert(hcm, info)}
}

// newClientCert follows HttpConnectionManager.forward_client_cert_details. What a caller without a verified
// certificate claims is never passed on, except by ALWAYS_FORWARD_ONLY, which says so.
func newClientCert(hcm *config.HCM, info *downstream.Info) exchange.ClientCert {
	switch hcm.ForwardClientCert {
	case config.ForwardClientCertAlwaysForwardOnly:
		return exchange.ClientCert{Keep: true}
	case config.ForwardClientCertForwardOnly:
		return exchange.ClientCert{Keep: info.MTLS()}
	case config.ForwardClientCertAppendForward:
		if info.MTLS() {
			return exchange.ClientCert{Keep: true, Element: certElement(hcm.ClientCertDetails, info.TLS)}
		}
	case config.ForwardClientCertSanitizeSet:
		if info.MTLS() {
			return exchange.ClientCert{Element: certElement(hcm.ClientCertDetails, info.TLS)}
		}
	}
	return exchange.ClientCert{}
}

// certElement describes the peer in the format of Envoy's x-forwarded-client-cert.
func certElement(d config.ClientCertDetails, t *downstream.TLS) string {
	var b strings.Builder
	if t.OwnURI != "" {
		b.WriteString("By=" + t.OwnURI + ";")
	}
	sum := sha256.Sum256(t.Peer.Raw)
	b.WriteString("Hash=" + hex.EncodeToString(sum[:]))
	if d.Cert {
		b.WriteString(`;Cert="` + url.QueryEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: t.Peer.Raw}))) + `"`)
	}
	if d.Subject {
		b.WriteString(`;Subject="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(t.Peer.Subject.String()) + `"`)
	}
	if d.URI {
		b.WriteString(";URI=" + t.PeerURI)
	}
	if d.DNS {
		for _, n := range t.Peer.DNSNames {
			b.WriteString(";DNS=" + n)
		}
	}
	return b.String()
}
