package ca

import (
	"context"
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/identity"
)

// Bounds of what strangers can make the API server do: every token that is not
// known costs it a TokenReview.
const (
	// failedFor is how long a token that was refused stays refused without
	// asking again.
	failedFor = 5 * time.Second
	// maxReviews is how many reviews are under way at once, and
	// maxReviewsPerPeer how many of them for one address.
	maxReviews        = 32
	maxReviewsPerPeer = 8
	// reviewWait is how long a caller waits for its turn.
	reviewWait = 5 * time.Second
	// A peer address may fail failureBurst times at once, and once in
	// failureEvery over time. Proxies behind a gateway share one address, so
	// it is generous; tokens that are known good are not held up by it.
	failureBurst = 50
	failureEvery = time.Second
	// maxCachedTokens and maxPeers bound the memories: at the bound, they
	// start anew.
	maxCachedTokens = 10_000
	maxPeers        = 10_000
)

// verdict is what is remembered of a token: whose it is, or why it was refused.
type verdict struct {
	id    identity.ID
	err   error
	until time.Time
}

// tokenHash stands for a token in memory, so that none is kept.
type tokenHash [sha256.Size]byte

// peerReviews is what one address has under way, and how often it failed.
type peerReviews struct {
	underWay int
	failures *rate.Limiter
}

// reviews remembers what the API server said of tokens, and bounds how often it
// is asked. It is safe for concurrent use.
type reviews struct {
	goodFor time.Duration
	slots   chan struct{} // one element for each review under way

	mu     sync.Mutex // guards what follows, and the numbers of peers
	tokens map[tokenHash]verdict
	peers  map[netip.Addr]*peerReviews
}

func newReviews(goodFor time.Duration) *reviews {
	return &reviews{
		goodFor: goodFor,
		slots:   make(chan struct{}, maxReviews),
		tokens:  make(map[tokenHash]verdict),
		peers:   make(map[netip.Addr]*peerReviews),
	}
}

// known gives what is remembered of a token at the time now.
func (r *reviews) known(key tokenHash, now time.Time) (verdict, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, ok := r.tokens[key]
	return v, ok && now.Before(v.until)
}

// begin waits for the turn of a review on behalf of a peer. It refuses a peer
// that has failed too often, or has too many reviews under way. The review ends
// with done.
func (r *reviews) begin(ctx context.Context, peer netip.Addr, now time.Time) (done func(), err error) {
	p, err := r.enter(peer, now)
	if err != nil {
		return nil, err
	}

	leave := func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		p.underWay--
	}

	wait := time.NewTimer(reviewWait)
	defer wait.Stop()

	select {
	case r.slots <- struct{}{}:
		return func() { <-r.slots; leave() }, nil
	case <-wait.C:
		leave()
		return nil, status.Errorf(codes.ResourceExhausted, "%d tokens are being checked by the API server: ask again", maxReviews)
	case <-ctx.Done():
		leave()
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// enter counts a review of a peer.
func (r *reviews) enter(peer netip.Addr, now time.Time) (*peerReviews, error) {
	r.mu.Lock()
	defer r.mu.Unlock()

	p := r.peers[peer]
	if p == nil {
		if len(r.peers) >= maxPeers {
			clear(r.peers)
		}
		p = &peerReviews{failures: rate.NewLimiter(rate.Every(failureEvery), failureBurst)}
		r.peers[peer] = p
	}

	if p.failures.TokensAt(now) < 1 {
		return nil, status.Errorf(codes.ResourceExhausted, "too many tokens from %s were refused: wait", peer)
	}
	if p.underWay >= maxReviewsPerPeer {
		return nil, status.Errorf(codes.ResourceExhausted, "%d tokens from %s are being checked by the API server: ask again", p.underWay, peer)
	}
	p.underWay++
	return p, nil
}

// remember notes what the API server said. An error of code Unavailable says
// nothing of the token and is forgotten.
func (r *reviews) remember(key tokenHash, peer netip.Addr, id identity.ID, err error, now time.Time) {
	v := verdict{id: id, err: err, until: now.Add(r.goodFor)}
	if err != nil {
		if status.Code(err) != codes.Unauthenticated {
			return
		}
		v.until = now.Add(failedFor)
	}

	r.mu.Lock()
	defer r.mu.Unlock()

	// The entry may be gone, or another: then the peer begins anew, as all do
	// when there are too many.
	if p := r.peers[peer]; p != nil && err != nil {
		p.failures.AllowN(now, 1)
	}
	if len(r.tokens) >= maxCachedTokens {
		r.forgetLocked(now)
	}
	r.tokens[key] = v
}

// forgetLocked drops what is too old, or everything when nothing is.
func (r *reviews) forgetLocked(now time.Time) {
	for k, v := range r.tokens {
		if !now.Before(v.until) {
			delete(r.tokens, k)
		}
	}
	if len(r.tokens) >= maxCachedTokens {
		clear(r.tokens)
	}
}
