package mesh

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	securityapi "istio.io/api/security/v1alpha1"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/test/rig/pki"
)

// Token is what a proxy of the identity shows to the rig's discovery. It proves
// nothing: whoever can reach the rig's namespaces is the rig.
func Token(namespace, account string) string { return namespace + "/" + account }

// authenticator takes callers for whom they say they are: by client
// certificate, else by Token.
type authenticator struct{}

func (authenticator) Authenticate(ctx context.Context) (identity.Proof, error) {
	if p, ok := peer.FromContext(ctx); ok {
		info, ok := p.AuthInfo.(credentials.TLSInfo)
		if ok && len(info.State.VerifiedChains) > 0 {
			id, err := identity.OfCertificate(info.State.VerifiedChains[0][0])
			return identity.Proof{ID: id}, err
		}
	}
	md, _ := metadata.FromIncomingContext(ctx)
	for _, v := range md.Get("authorization") {
		token, bearer := strings.CutPrefix(v, "Bearer ")
		namespace, account, whole := strings.Cut(token, "/")
		if bearer && whole {
			return identity.Proof{ID: identity.ID{TrustDomain: identity.DefaultTrustDomain, Namespace: namespace, ServiceAccount: account}}, nil
		}
	}
	return identity.Proof{}, status.Error(codes.Unauthenticated, "neither a client certificate nor a token of the rig")
}

// signer is istio.v1.auth.IstioCertificateService over the rig's root.
type signer struct {
	securityapi.UnimplementedIstioCertificateServiceServer
	root *pki.Root
}

func (s *signer) CreateCertificate(ctx context.Context, req *securityapi.IstioCertificateRequest) (*securityapi.IstioCertificateResponse, error) {
	proof, err := authenticator{}.Authenticate(ctx)
	if err != nil {
		return nil, err
	}
	cert, err := s.sign([]byte(req.GetCsr()), proof.ID)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return &securityapi.IstioCertificateResponse{CertChain: []string{string(cert), string(s.root.PEM())}}, nil
}

func (s *signer) sign(csrPEM []byte, id identity.ID) ([]byte, error) {
	block, _ := pem.Decode(csrPEM)
	if block == nil {
		return nil, errors.New("the request is no PEM")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	return s.root.Sign(csr.PublicKey, id.String())
}
