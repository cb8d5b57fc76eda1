package ca

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/identity"
)

func TestSignaturesPerIdentity(t *testing.T) {
	l := newSignLimits()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ask := func(account string, at time.Time) bool {
		return l.allow(identity.ID{TrustDomain: "cluster.local", Namespace: "foo", ServiceAccount: account}, at)
	}
	for i := range signBurst {
		if !ask("greedy", now) {
			t.Fatalf("request %d was refused", i)
		}
	}
	if ask("greedy", now) {
		t.Error("one more than the burst was taken")
	}
	if !ask("modest", now) {
		t.Error("another identity was refused for it")
	}
	if !ask("greedy", now.Add(time.Second)) {
		t.Error("it is refused a second later, too")
	}

	// What is remembered is bounded.
	for i := range 3 * maxSigners {
		ask(fmt.Sprint("many-", i), now)
	}
	if n := len(l.ids); n > maxSigners {
		t.Errorf("%d identities are remembered", n)
	}
}

func TestSigningWaitsForItsTurn(t *testing.T) {
	l := newSignLimits()
	id := identity.ID{TrustDomain: "cluster.local", Namespace: "foo", ServiceAccount: "default"}
	var ends []func()
	for range cap(l.slots) {
		done, err := l.begin(t.Context(), id, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, done)
	}

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.begin(gone, id, time.Now()); status.Code(err) != codes.Canceled {
		t.Errorf("all slots taken, the caller gone: got %v", err)
	}
	ends[0]()
	done, err := l.begin(t.Context(), id, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	done()
}

func TestReviewsUnderWayPerPeer(t *testing.T) {
	r := newReviews(time.Minute)
	now := time.Now()
	greedy, modest := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	var ends []func()
	for range maxReviewsPerPeer {
		done, err := r.begin(t.Context(), greedy, now)
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, done)
	}
	if _, err := r.begin(t.Context(), greedy, now); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one more of the same address: got %v", err)
	}
	done, err := r.begin(t.Context(), modest, now)
	if err != nil {
		t.Errorf("another address: %v", err)
	} else {
		done()
	}
	for _, end := range ends {
		end()
	}
	if done, err = r.begin(t.Context(), greedy, now); err != nil {
		t.Errorf("after they ended: %v", err)
	} else {
		done()
	}
	if len(r.slots) != 0 {
		t.Errorf("%d slots are still taken", len(r.slots))
	}
}

func TestReviewMemoryIsBounded(t *testing.T) {
	r := newReviews(time.Minute)
	now := time.Now()
	refused := status.Error(codes.Unauthenticated, "no")
	for i := range 2*maxCachedTokens + 7 {
		addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		done, err := r.begin(t.Context(), addr, now)
		if err != nil {
			t.Fatal(err)
		}
		done()
		r.remember(tokenHash{byte(i), byte(i >> 8), byte(i >> 16)}, addr, identity.ID{}, refused, now)
	}
	if len(r.tokens) > maxCachedTokens || len(r.peers) > maxPeers {
		t.Errorf("%d tokens and %d peers are remembered", len(r.tokens), len(r.peers))
	}

	// That the API server was away says nothing of the token.
	r.remember(tokenHash{0: 1, 31: 1}, netip.Addr{}, identity.ID{}, status.Error(codes.Unavailable, "away"), now)
	if _, ok := r.known(tokenHash{0: 1, 31: 1}, now); ok {
		t.Error("an outage of the API server is remembered")
	}
}
