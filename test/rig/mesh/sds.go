package mesh

import (
	"fmt"
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/test/rig/pki"
	"github.com/isthmus-mesh/isthmus/xds"
)

// The names of secrets, as the resources of discovery have them.
const (
	secretOwn   = "default"
	secretRoots = "ROOTCA"
)

// secrets gives Envoy the certificates that isthmus-proxy gets from the CA by
// itself: state-of-the-world SDS, one certificate per identity, never renewed.
type secrets struct {
	secretv3.UnimplementedSecretDiscoveryServiceServer
	root *pki.Root

	mu    sync.Mutex
	certs map[identity.ID]pki.Leaf
}

func (s *secrets) StreamSecrets(stream secretv3.SecretDiscoveryService_StreamSecretsServer) error {
	var id identity.ID
	for nonce := 1; ; nonce++ {
		req, err := stream.Recv()
		if err != nil {
			return nil // the proxy has gone
		}
		if node := req.GetNode(); node != nil {
			if id, err = nodeIdentity(node); err != nil {
				return err
			}
		}
		if d := req.GetErrorDetail(); d != nil {
			return status.Errorf(codes.InvalidArgument, "%s refused its secrets: %s", id, d.GetMessage())
		}
		if req.GetResponseNonce() != "" {
			continue
		}
		resp := &discoveryv3.DiscoveryResponse{TypeUrl: req.GetTypeUrl(), VersionInfo: "1", Nonce: fmt.Sprint(nonce)}
		for _, name := range req.GetResourceNames() {
			secret, err := s.secret(id, name)
			if err != nil {
				return err
			}
			body, err := anypb.New(secret)
			if err != nil {
				return err
			}
			resp.Resources = append(resp.Resources, body)
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
}

// nodeIdentity takes a proxy for whom its node says it is. The configuration of
// secrets in the resources has no place for a token.
func nodeIdentity(node *corev3.Node) (identity.ID, error) {
	id, err := xds.ParseNodeID(node.GetId())
	if err != nil {
		return identity.ID{}, status.Error(codes.InvalidArgument, err.Error())
	}
	account := node.GetMetadata().GetFields()["SERVICE_ACCOUNT"].GetStringValue()
	if account == "" {
		return identity.ID{}, status.Error(codes.InvalidArgument, "the node's metadata has no SERVICE_ACCOUNT")
	}
	return identity.ID{TrustDomain: identity.DefaultTrustDomain, Namespace: id.Namespace, ServiceAccount: account}, nil
}

func (s *secrets) secret(id identity.ID, name string) (*tlsv3.Secret, error) {
	switch name {
	case secretRoots:
		return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_ValidationContext{
			ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inline(s.root.PEM())}}}, nil
	case secretOwn:
		leaf, err := s.leaf(id)
		if err != nil {
			return nil, err
		}
		return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{
			TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: inline(leaf.Cert), PrivateKey: inline(leaf.Key)}}}, nil
	}
	return nil, status.Errorf(codes.NotFound, "no secret %q", name)
}

func (s *secrets) leaf(id identity.ID) (pki.Leaf, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if leaf, ok := s.certs[id]; ok {
		return leaf, nil
	}
	leaf, err := s.root.Issue(id.String())
	if err != nil {
		return pki.Leaf{}, err
	}
	s.certs[id] = leaf
	return leaf, nil
}

func inline(data []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: data}}
}
