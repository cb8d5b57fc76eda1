package ca

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	securityapi "istio.io/api/security/v1alpha1"
)

// Service is istio.v1.auth.IstioCertificateService.
type Service struct {
	securityapi.UnimplementedIstioCertificateServiceServer
	authority *Authority
	auth      *Authenticator
}

// NewService joins an authority with the check of its callers.
func NewService(authority *Authority, auth *Authenticator) *Service {
	return &Service{authority: authority, auth: auth}
}

// Register adds the service to a gRPC server, which must be behind
// [Authority.ServerTLS].
func (s *Service) Register(r grpc.ServiceRegistrar) {
	securityapi.RegisterIstioCertificateServiceServer(r, s)
}

// CreateCertificate signs the request for whom the caller is proven to be.
func (s *Service) CreateCertificate(ctx context.Context, req *securityapi.IstioCertificateRequest) (*securityapi.IstioCertificateResponse, error) {
	m, log := s.authority.metrics, s.authority.cfg.Logger
	m.requests.Inc()
	id, err := s.auth.Authenticate(ctx)
	if err != nil {
		m.authFailed.Inc()
		log.Warn("certificate request: caller not proven", "error", err)
		return nil, err
	}
	secs := req.GetValidityDuration()
	if secs < 0 || secs > int64(s.authority.cfg.MaxTTL/time.Second) {
		m.refused.Inc()
		return nil, status.Errorf(codes.InvalidArgument, "validity_duration %d s is not between 0 and %d", secs, int64(s.authority.cfg.MaxTTL/time.Second))
	}
	chain, err := s.authority.Sign([]byte(req.GetCsr()), id, time.Duration(secs)*time.Second)
	if err != nil {
		m.refused.Inc()
		log.Warn("certificate request not signed", "identity", id.String(), "error", err)
		var bad *RequestError
		if errors.As(err, &bad) {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		return nil, status.Error(codes.Internal, err.Error())
	}
	m.issued.Inc()
	log.Debug("certificate signed", "identity", id.String())
	return &securityapi.IstioCertificateResponse{CertChain: chain}, nil
}
