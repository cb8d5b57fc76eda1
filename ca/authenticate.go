package ca

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/identity"
)

// AuthConfig is what an [Authenticator] needs.
type AuthConfig struct {
	// TrustDomain is that of every caller; cluster.local when empty.
	TrustDomain string
	// JWTPolicy is identity.JWTThirdParty when empty.
	JWTPolicy string
	// CacheFor is how long a token that the API server has accepted is taken
	// without asking again; 1 min when zero.
	CacheFor time.Duration
}

// Authenticator proves callers of gRPC services: by a client certificate that
// the TLS handshake has verified, else by a service account token that the API
// server confirms. Its errors are gRPC status errors.
type Authenticator struct {
	client  kubernetes.Interface
	cfg     AuthConfig
	reviews *reviews
}

// maxToken is the length in bytes of the longest token that is looked at. The
// API server's own are below 2 KiB.
const maxToken = 16 << 10

// NewAuthenticator checks cfg.
func NewAuthenticator(client kubernetes.Interface, cfg AuthConfig) (*Authenticator, error) {
	cfg.JWTPolicy = cmp.Or(cfg.JWTPolicy, identity.JWTThirdParty)
	if err := identity.CheckJWTPolicy(cfg.JWTPolicy); err != nil {
		return nil, err
	}

	if cfg.TrustDomain == "" {
		cfg.TrustDomain = identity.DefaultTrustDomain
	}
	if cfg.CacheFor == 0 {
		cfg.CacheFor = time.Minute
	}
	return &Authenticator{client: client, cfg: cfg, reviews: newReviews(cfg.CacheFor)}, nil
}

// Authenticate tells who the caller is. A verified client certificate counts
// for more than a token beside it, since a token may have come through other
// hands.
func (a *Authenticator) Authenticate(ctx context.Context) (identity.ID, error) {
	id, err := a.byCertificate(ctx)
	if err != nil || !id.IsZero() {
		return id, err
	}
	return a.byToken(ctx, "neither a client certificate nor an authorization token was shown")
}

// AuthenticateToken tells who the caller is by its token alone, and refuses a
// caller whose client certificate, if it shows one, is another's. A token dies
// with its pod; a certificate that is good enough to get the next one would
// live for ever.
func (a *Authenticator) AuthenticateToken(ctx context.Context) (identity.ID, error) {
	shown, err := a.byCertificate(ctx)
	if err != nil {
		return identity.ID{}, err
	}

	id, err := a.byToken(ctx, "no authorization token was shown: a certificate alone does not renew itself")
	if err != nil {
		return identity.ID{}, err
	}
	if !shown.IsZero() && shown != id {
		return identity.ID{}, status.Errorf(codes.Unauthenticated, "the client certificate is of %s, the token of %s", shown, id)
	}
	return id, nil
}

// byCertificate gives the identity of the verified client certificate; nobody
// when none was shown.
func (a *Authenticator) byCertificate(ctx context.Context) (identity.ID, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return identity.ID{}, nil
	}

	// The handshake takes clients without a certificate, too (ServerTLS).
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return identity.ID{}, nil
	}

	id, err := identity.OfCertificate(info.State.VerifiedChains[0][0])
	if err != nil {
		return identity.ID{}, status.Errorf(codes.Unauthenticated, "client certificate: %v", err)
	}
	if id.TrustDomain != a.cfg.TrustDomain {
		return identity.ID{}, status.Errorf(codes.Unauthenticated, "client certificate is for %s, this is trust domain %s", id, a.cfg.TrustDomain)
	}
	return id, nil
}

// bearer finds the token in the metadata, as RFC 6750, section 2.1, has it.
// none is what to say when there is no authorization at all.
func bearer(ctx context.Context, none string) (string, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	vals := md.Get("authorization")
	if len(vals) == 0 {
		return "", errors.New(none)
	}
	if len(vals) > 1 {
		return "", errors.New("more than one authorization was shown")
	}

	scheme, token, ok := strings.Cut(vals[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", errors.New("authorization is not of the form: Bearer TOKEN")
	}
	if len(token) > maxToken {
		return "", fmt.Errorf("the token is longer than %d bytes", maxToken)
	}
	return token, nil
}

// byToken gives the identity of the bearer token in the metadata: by what is
// remembered, else by asking the API server.
func (a *Authenticator) byToken(ctx context.Context, none string) (identity.ID, error) {
	token, err := bearer(ctx, none)
	if err != nil {
		return identity.ID{}, status.Error(codes.Unauthenticated, err.Error())
	}

	// Known tokens are not held up by the bounds on reviews: a flood of bad ones
	// must not keep the mesh's proxies out.
	key, now := tokenHash(sha256.Sum256([]byte(token))), time.Now()
	if v, ok := a.reviews.known(key, now); ok {
		return v.id, v.err
	}

	from := peerAddr(ctx)
	done, err := a.reviews.begin(ctx, from, now)
	if err != nil {
		return identity.ID{}, err
	}
	defer done()

	id, err := a.review(ctx, token)
	a.reviews.remember(key, from, id, err, now)
	return id, err
}

// peerAddr is the address that the call came from; the zero address when it is
// none of the Internet protocol's.
func peerAddr(ctx context.Context) netip.Addr {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return netip.Addr{}
	}
	ap, err := netip.ParseAddrPort(p.Addr.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

// review asks the API server whose token it is.
func (a *Authenticator) review(ctx context.Context, token string) (identity.ID, error) {
	st, err := a.ask(ctx, token, []string{identity.TokenAudience})
	if err == nil && !st.Authenticated && a.cfg.JWTPolicy == identity.JWTFirstParty {
		st, err = a.ask(ctx, token, nil)
	}
	if err != nil {
		return identity.ID{}, status.Errorf(codes.Unavailable, "the API server cannot check the token now: %v", err)
	}

	if !st.Authenticated {
		reason := st.Error
		if reason == "" {
			reason = "not accepted for audience " + identity.TokenAudience
		}
		return identity.ID{}, status.Errorf(codes.Unauthenticated, "service account token: %s", reason)
	}

	id, err := a.serviceAccount(st.User.Username)
	if err != nil {
		return identity.ID{}, status.Error(codes.Unauthenticated, err.Error())
	}
	return id, nil
}

func (a *Authenticator) ask(ctx context.Context, token string, audiences []string) (*authenticationv1.TokenReviewStatus, error) {
	review, err := a.client.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: audiences},
	}, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	st := &review.Status

	// An authenticator that knows nothing of audiences leaves them empty,
	// and then the token may be meant for anybody.
	if st.Authenticated && len(audiences) > 0 && !slices.Contains(st.Audiences, audiences[0]) {
		st.Authenticated, st.Error = false, "the API server does not confirm audience "+audiences[0]
	}
	return st, nil
}

// serviceAccount reads the user name that Kubernetes gives to service accounts.
func (a *Authenticator) serviceAccount(user string) (identity.ID, error) {
	part := strings.Split(user, ":")
	if len(part) != 4 || part[0] != "system" || part[1] != "serviceaccount" {
		return identity.ID{}, fmt.Errorf("token is user %q's, not a service account's", user)
	}
	id := identity.ID{TrustDomain: a.cfg.TrustDomain, Namespace: part[2], ServiceAccount: part[3]}
	if err := id.Validate(); err != nil {
		return identity.ID{}, fmt.Errorf("token of user %q: %w", user, err)
	}
	return id, nil
}
