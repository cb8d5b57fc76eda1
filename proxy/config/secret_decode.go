package config

import (
	"crypto/tls"
	"crypto/x509"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// DecodeSecret reads and checks a secret. Its errors hold nothing of the key.
func DecodeSecret(body *anypb.Any) (*Secret, error) {
	p := &tlsv3.Secret{}
	a := at{kind: "secret"}
	if err := a.unpack(body, p); err != nil {
		return nil, err
	}
	a.name = p.GetName()
	if a.name == "" {
		return nil, a.in("name").errorf("is empty")
	}

	s := &Secret{Name: a.name, Version: versionOf(body)}
	switch t := p.GetType().(type) {
	case *tlsv3.Secret_TlsCertificate:
		return s, s.decodeCertificate(a.in("tls_certificate"), t.TlsCertificate)
	case *tlsv3.Secret_ValidationContext:
		return s, s.decodeRoots(a.in("validation_context"), t.ValidationContext)
	}
	return nil, a.errorf("is neither tls_certificate nor validation_context")
}

func (s *Secret) decodeCertificate(a at, p *tlsv3.TlsCertificate) error {
	if err := a.only(p, "certificate_chain", "private_key"); err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(inlineBytes(p.GetCertificateChain()), inlineBytes(p.GetPrivateKey()))
	if err != nil {
		return a.errorf("%v", err)
	}
	s.Certificate = &pair
	return nil
}

func (s *Secret) decodeRoots(a at, p *tlsv3.CertificateValidationContext) error {
	if err := a.only(p, "trusted_ca"); err != nil {
		return err
	}
	s.Roots = x509.NewCertPool()
	if !s.Roots.AppendCertsFromPEM(inlineBytes(p.GetTrustedCa())) {
		return a.in("trusted_ca").errorf("holds no certificate in PEM")
	}
	return nil
}
