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

// AuthConfig is what an [Authenticator] needs.
type AuthConfig struct {
	// Cluster is the id of the cluster that the client is of.
	Cluster string
	// Remote gives a client for the API server of another cluster of the mesh;
	// nil when the cluster is not known, or there is no way to it now. Without
	// the function, there are no other clusters.
	Remote func(cluster string) kubernetes.Interface
	// TrustDomain is that of every caller; cluster.local when empty.
	TrustDomain string
	// JWTPolicy is identity.JWTThirdParty when empty.
	JWTPolicy string
	// CacheFor is how long a token that the API server has accepted is taken
	// without asking again; 1 min when zero.
	CacheFor time.Duration
}

// Authenticator proves callers of gRPC services: by a client certificate that
// the TLS handshake has verified, else by a service account token. Which API server
// is to confirm the token the caller says (identity.ClusterMetadata); that one
// decides. Its errors are gRPC status errors.
type Authenticator struct {
	client kubernetes.Interface
	cfg    AuthConfig

	mu sync.Mutex
	// reviews are kept for each cluster: an API server that hangs is not to use
	// up the turns of the others.
	reviews map[string]*reviews
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
	return &Authenticator{client: client, cfg: cfg, reviews: map[string]*reviews{}}, nil
}

// Authenticate tells who the caller is. A verified client certificate counts
// for more than a token beside it, since a token may have come through other
// hands; but only a token proves which cluster the caller is of. One beside a
// certificate is looked at when the caller names its cluster.
func (a *Authenticator) Authenticate(ctx context.Context) (identity.Proof, error) {
	id, err := a.byCertificate(ctx)
	if err != nil {
		return identity.Proof{}, err
	}
	if id.IsZero() {
		return a.byToken(ctx, "neither a client certificate nor an authorization token was shown")
	}

	proof := identity.Proof{ID: id}
	if md, _ := metadata.FromIncomingContext(ctx); len(md.Get(identity.ClusterMetadata)) == 0 || len(md.Get("authorization")) == 0 {
		return proof, nil
	}
	ctx, cancel := context.WithTimeout(ctx, besideTime)
	defer cancel()
	switch told, err := a.byToken(ctx, ""); {
	case err != nil:
		// Whoever has no good token can as well show none: the certificate
		// stands for itself. While an API server is gone, the proxies of its
		// cluster must not be.
		return proof, nil
	case told.ID != id:
		return identity.Proof{}, otherToken(id, told.ID)
	default:
		return told, nil
	}
}

// besideTime bounds how long a caller who has shown a certificate waits for the
// review of its token.
const besideTime = 2 * time.Second

func otherToken(shown, told identity.ID) error {
	return status.Errorf(codes.Unauthenticated, "the client certificate is of %s, the token of %s", shown, told)
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

	told, err := a.byToken(ctx, "no authorization token was shown: a certificate alone does not renew itself")
	if err != nil {
		return identity.ID{}, err
	}
	if !shown.IsZero() && shown != told.ID {
		return identity.ID{}, otherToken(shown, told.ID)
	}
	return told.ID, nil
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

// claimedCluster finds the cluster that the caller says its token is of; the own
// one when it says none.
func (a *Authenticator) claimedCluster(ctx context.Context) (string, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	switch vals := md.Get(identity.ClusterMetadata); {
	case len(vals) == 0:
		return a.cfg.Cluster, nil
	case len(vals) > 1:
		return "", fmt.Errorf("more than one cluster was named (%s)", identity.ClusterMetadata)
	default:
		return cmp.Or(vals[0], a.cfg.Cluster), nil
	}
}

// clientOf is for the API server of a cluster. The error is passing: the cluster
// may be on its way.
func (a *Authenticator) clientOf(cluster string) (kubernetes.Interface, error) {
	if cluster == a.cfg.Cluster {
		return a.client, nil
	}
	if a.cfg.Remote != nil {
		if client := a.cfg.Remote(cluster); client != nil {
			return client, nil
		}
	}
	return nil, status.Errorf(codes.Unavailable, "no API server is known that could check a token of cluster %.100q; this one is %q: "+
		"give the control plane the Secret of that cluster (create-remote-secret --name %.100s), or mend the proxy's CLUSTER_ID", cluster, a.cfg.Cluster, cluster)
}

// reviewsOf are the reviews at the API server of a cluster that is known.
func (a *Authenticator) reviewsOf(cluster string) *reviews {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.reviews[cluster]
	if r == nil {
		r = newReviews(a.cfg.CacheFor)
		a.reviews[cluster] = r
	}
	return r
}

// byToken gives the identity of the bearer token in the metadata, and the cluster
// that has confirmed it: by what is remembered of that cluster's answers, else by
// asking its API server.
func (a *Authenticator) byToken(ctx context.Context, none string) (identity.Proof, error) {
	token, err := bearer(ctx, none)
	if err != nil {
		return identity.Proof{}, status.Error(codes.Unauthenticated, err.Error())
	}
	cluster, err := a.claimedCluster(ctx)
	if err != nil {
		return identity.Proof{}, status.Error(codes.Unauthenticated, err.Error())
	}
	client, err := a.clientOf(cluster)
	if err != nil {
		return identity.Proof{}, err
	}

	// Known tokens are not held up by the bounds on reviews: a flood of bad ones
	// must not keep the mesh's proxies out.
	reviews := a.reviewsOf(cluster)
	key, now := tokenHash(sha256.Sum256([]byte(token))), time.Now()
	if v, ok := reviews.known(key, now); ok {
		return identity.Proof{ID: v.id, Cluster: cluster}, v.err
	}

	from := peerAddr(ctx)
	done, err := reviews.begin(ctx, from, now)
	if err != nil {
		return identity.Proof{}, err
	}
	defer done()

	id, err := a.review(ctx, client, token)
	reviews.remember(key, from, id, err, now)
	return identity.Proof{ID: id, Cluster: cluster}, err
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

// reviewTime bounds the answers of an API server to one token. One that hangs
// would hold on to the turns of its cluster.
const reviewTime = 10 * time.Second

// review asks an API server whose token it is.
func (a *Authenticator) review(ctx context.Context, client kubernetes.Interface, token string) (identity.ID, error) {
	ctx, cancel := context.WithTimeout(ctx, reviewTime)
	defer cancel()
	st, err := ask(ctx, client, token, []string{identity.TokenAudience})
	if err == nil && !st.Authenticated && a.cfg.JWTPolicy == identity.JWTFirstParty {
		st, err = ask(ctx, client, token, nil)
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

func ask(ctx context.Context, client kubernetes.Interface, token string, audiences []string) (*authenticationv1.TokenReviewStatus, error) {
	review, err := client.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
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
