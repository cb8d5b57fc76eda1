package ca

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
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

// JWT policies, by the names of values.global.jwtPolicy.
const (
	// JWTThirdParty takes tokens made for the audience istio-ca alone.
	JWTThirdParty = "third-party-jwt"
	// JWTFirstParty also takes the API server's own tokens, as clusters
	// without projected volumes have them.
	JWTFirstParty = "first-party-jwt"
)

// Audience is whom a proxy's token is made for.
const Audience = "istio-ca"

// AuthConfig is what an [Authenticator] needs.
type AuthConfig struct {
	// TrustDomain is that of every caller; cluster.local when empty.
	TrustDomain string
	// JWTPolicy is JWTThirdParty when empty.
	JWTPolicy string
	// CacheFor is how long a token that the API server has accepted is taken
	// without asking again; 1 min when zero.
	CacheFor time.Duration
}

// Authenticator proves callers of gRPC services: by a client certificate that
// the TLS handshake has verified, else by a service account token that the API
// server confirms. Its errors are gRPC status errors.
type Authenticator struct {
	client kubernetes.Interface
	cfg    AuthConfig

	mu     sync.Mutex
	tokens map[[sha256.Size]byte]cachedID
}

type cachedID struct {
	id    identity.ID
	until time.Time
}

// maxCachedTokens bounds the cache: at the bound, it starts anew.
const maxCachedTokens = 10_000

// NewAuthenticator checks cfg.
func NewAuthenticator(client kubernetes.Interface, cfg AuthConfig) (*Authenticator, error) {
	switch cfg.JWTPolicy {
	case "":
		cfg.JWTPolicy = JWTThirdParty
	case JWTThirdParty, JWTFirstParty:
	default:
		return nil, fmt.Errorf("jwt policy %q: want %s or %s", cfg.JWTPolicy, JWTThirdParty, JWTFirstParty)
	}
	if cfg.TrustDomain == "" {
		cfg.TrustDomain = identity.DefaultTrustDomain
	}
	if cfg.CacheFor == 0 {
		cfg.CacheFor = time.Minute
	}
	return &Authenticator{client: client, cfg: cfg, tokens: make(map[[sha256.Size]byte]cachedID)}, nil
}

// Authenticate tells who the caller is.
func (a *Authenticator) Authenticate(ctx context.Context) (identity.ID, error) {
	id, err := a.byCertificate(ctx)
	if err != nil || !id.IsZero() {
		return id, err
	}
	token, err := bearer(ctx)
	if err != nil {
		return identity.ID{}, status.Error(codes.Unauthenticated, err.Error())
	}
	return a.byToken(ctx, token)
}

// byCertificate gives the identity of the verified client certificate; nobody
// when none was shown.
func (a *Authenticator) byCertificate(ctx context.Context) (identity.ID, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return identity.ID{}, nil
	}
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
func bearer(ctx context.Context) (string, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	vals := md.Get("authorization")
	if len(vals) == 0 {
		return "", errors.New("neither a client certificate nor an authorization token was shown")
	}
	if len(vals) > 1 {
		return "", errors.New("more than one authorization was shown")
	}
	scheme, token, ok := strings.Cut(vals[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", errors.New("authorization is not of the form: Bearer TOKEN")
	}
	return token, nil
}

func (a *Authenticator) byToken(ctx context.Context, token string) (identity.ID, error) {
	key, now := sha256.Sum256([]byte(token)), time.Now()
	a.mu.Lock()
	hit, ok := a.tokens[key]
	a.mu.Unlock()
	if ok && now.Before(hit.until) {
		return hit.id, nil
	}
	id, err := a.review(ctx, token)
	if err != nil {
		return identity.ID{}, err
	}
	a.mu.Lock()
	if len(a.tokens) >= maxCachedTokens {
		clear(a.tokens)
	}
	a.tokens[key] = cachedID{id: id, until: now.Add(a.cfg.CacheFor)}
	a.mu.Unlock()
	return id, nil
}

// review asks the API server whose token it is.
func (a *Authenticator) review(ctx context.Context, token string) (identity.ID, error) {
	st, err := a.ask(ctx, token, []string{Audience})
	if err == nil && !st.Authenticated && a.cfg.JWTPolicy == JWTFirstParty {
		st, err = a.ask(ctx, token, nil)
	}
	if err != nil {
		return identity.ID{}, status.Errorf(codes.Unavailable, "the API server cannot check the token now: %v", err)
	}
	if !st.Authenticated {
		reason := st.Error
		if reason == "" {
			reason = "not accepted for audience " + Audience
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
