package ca

import (
	"context"
	"errors"
	"math"
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
	limits    *signLimits
}

// NewService joins an authority with the check of its callers.
func NewService(authority *Authority, auth *Authenticator) *Service {
	return &Service{authority: authority, auth: auth, limits: newSignLimits()}
}

// Register adds the service to a gRPC server, which must be behind
// [Authority.ServerTLS].
func (s *Service) Register(r grpc.ServiceRegistrar) {
	securityapi.RegisterIstioCertificateServiceServer(r, s)
}

// CreateCertificate signs the request for whom the caller's token proves it to
// be. A client certificate is not needed, and is not enough.
func (s *Service) CreateCertificate(ctx context.Context, req *securityapi.IstioCertificateRequest) (*securityapi.IstioCertificateResponse, error) {
	m, log := s.authority.metrics, s.authority.cfg.Logger
	m.requests.Inc()

	id, err := s.auth.AuthenticateToken(ctx)
	if err != nil {
		m.authFailed.Inc()
		log.Warn("certificate request: caller not proven", "peer", peerAddr(ctx).String(), "error", err)
		return nil, err
	}

	// The caller is proven first: the bounds are by identity, and a stranger
	// must not use up another's.
	done, err := s.limits.begin(ctx, id, time.Now())
	if err != nil {
		m.refused.Inc()
		log.Warn("certificate request not signed", "identity", id.String(), "error", err)
		return nil, err
	}
	defer done()

	chain, err := s.authority.Sign([]byte(req.GetCsr()), id, lifetime(req.GetValidityDuration()))
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

// lifetime is a number of seconds as a duration, which holds at most 292 years.
func lifetime(seconds int64) time.Duration {
	const longest = math.MaxInt64 / int64(time.Second)
	return time.Duration(max(-longest, min(seconds, longest))) * time.Second
}
