package discovery

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	// decisionFor is how long a decision about a token holds.
	decisionFor = 10 * time.Second
	// maxDecisions bounds what is remembered: at the bound, it starts anew.
	maxDecisions = 256
	// maxQuestions is how many tokens the API server is asked about at once.
	// People and scrapers read these pages, not fleets.
	maxQuestions = 4
	// questionTime is for the API server's answers to one token.
	questionTime = 5 * time.Second
)

// debugAccess lets callers read the pages below /debug/, which show all of the
// mesh: those of the pod itself, as kubectl port-forward is one, and those whose
// bearer token may "get" the page's path (nonResourceURLs in a ClusterRole).
type debugAccess struct {
	client kubernetes.Interface
	log    *slog.Logger
	asking chan struct{} // one element for each token that is asked about

	mu        sync.Mutex
	decisions map[decisionKey]decision
}

// decisionKey is a token, of which only the hash is kept, and a path.
type decisionKey struct {
	token [sha256.Size]byte
	path  string
}

type decision struct {
	err   error
	until time.Time
}

// accessError is a refusal, with its status.
type accessError struct {
	status int
	why    string
}

func (e *accessError) Error() string { return e.why }

func newDebugAccess(client kubernetes.Interface, log *slog.Logger) *debugAccess {
	return &debugAccess{
		client: client, log: log,
		asking:    make(chan struct{}, maxQuestions),
		decisions: map[decisionKey]decision{},
	}
}

// guard passes on the requests of those who may read.
func (a *debugAccess) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fromLoopback(r) {
			next.ServeHTTP(w, r)
			return
		}
		err := a.allow(r.Context(), r.Header.Get("Authorization"), r.URL.Path)
		if err == nil {
			next.ServeHTTP(w, r)
			return
		}

		status := http.StatusServiceUnavailable
		if refused := (*accessError)(nil); errors.As(err, &refused) {
			status = refused.status
		}
		if status == http.StatusUnauthorized {
			// RFC 9110, section 15.5.2.
			w.Header().Set("WWW-Authenticate", "Bearer")
		}
		http.Error(w, err.Error(), status)
	})
}

// fromLoopback tells whether the caller is in the pod.
func fromLoopback(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// allow decides about an Authorization header and a path.
func (a *debugAccess) allow(ctx context.Context, authorization, path string) error {
	scheme, token, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return &accessError{http.StatusUnauthorized, "this page is for callers from inside the pod (kubectl port-forward), or with a bearer token of a user who may get the nonResourceURL " + path}
	}
	key := decisionKey{sha256.Sum256([]byte(token)), path}
	now := time.Now()
	a.mu.Lock()
	d, ok := a.decisions[key]
	a.mu.Unlock()
	if ok && now.Before(d.until) {
		return d.err
	}

	// Nobody waits: a flood of made-up tokens must not hold on to requests.
	select {
	case a.asking <- struct{}{}:
		defer func() { <-a.asking }()
	default:
		return errors.New("other tokens are being checked: ask again")
	}
	err := a.ask(ctx, token, path)
	if refused := (*accessError)(nil); err == nil || errors.As(err, &refused) {
		a.remember(key, decision{err, now.Add(decisionFor)})
	}
	return err
}

func (a *debugAccess) remember(key decisionKey, d decision) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.decisions) >= maxDecisions {
		clear(a.decisions)
	}
	a.decisions[key] = d
}

// ask has the API server say whose token it is, and whether that user may get
// the path.
func (a *debugAccess) ask(ctx context.Context, token, path string) error {
	ctx, cancel := context.WithTimeout(ctx, questionTime)
	defer cancel()
	review, err := a.client.AuthenticationV1().TokenReviews().Create(ctx,
		&authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("the API server cannot check the token now: %w", err)
	}
	if !review.Status.Authenticated {
		return &accessError{http.StatusUnauthorized, "the API server does not accept the token"}
	}

	user := review.Status.User
	extra := map[string]authorizationv1.ExtraValue{}
	for k, v := range user.Extra {
		extra[k] = authorizationv1.ExtraValue(v)
	}
	access, err := a.client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{
			User: user.Username, UID: user.UID, Groups: user.Groups, Extra: extra,
			NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: path, Verb: "get"},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("the API server cannot check what user %s may do now: %w", user.Username, err)
	}
	if !access.Status.Allowed {
		a.log.Warn("debug page refused", "user", user.Username, "path", path)
		return &accessError{http.StatusForbidden, fmt.Sprintf("user %s may not get the nonResourceURL %s: a ClusterRole with nonResourceURLs %s and verb get lets it", user.Username, path, path)}
	}
	return nil
}
