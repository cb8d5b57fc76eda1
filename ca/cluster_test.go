package ca_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/isthmus-mesh/isthmus/ca"
	"github.com/isthmus-mesh/isthmus/identity"
)

// apiServer is one cluster's: it confirms its own tokens.
type apiServer struct {
	*fake.Clientset
	asked atomic.Int64
	gone  error // answered instead
}

func newAPIServer(tokens map[string]string) *apiServer {
	s := &apiServer{Clientset: fake.NewClientset()}
	s.PrependReactor("create", "tokenreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		s.asked.Add(1)
		if s.gone != nil {
			return true, nil, s.gone
		}
		tr := a.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview).DeepCopy()
		if account := tokens[tr.Spec.Token]; account != "" {
			tr.Status = authenticationv1.TokenReviewStatus{Authenticated: true, Audiences: tr.Spec.Audiences,
				User: authenticationv1.UserInfo{Username: "system:serviceaccount:" + account}}
		}
		return true, tr, nil
	})
	return s
}

// caller is what one shows.
type caller struct {
	token       string
	clusters    []string
	certificate *x509.Certificate
}

func (c caller) context(ctx context.Context) context.Context {
	md := metadata.MD{}
	if c.token != "" {
		md.Set("authorization", "Bearer "+c.token)
	}
	md.Append(identity.ClusterMetadata, c.clusters...)
	p := &peer.Peer{Addr: addrPort{}}
	if c.certificate != nil {
		p.AuthInfo = credentials.TLSInfo{State: tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{c.certificate}}}}
	}
	return peer.NewContext(metadata.NewIncomingContext(ctx, md), p)
}

type addrPort struct{}

func (addrPort) Network() string { return "tcp" }
func (addrPort) String() string  { return netip.MustParseAddrPort("192.0.2.9:1").String() }

// certificateOf is a verified certificate of an account.
func certificateOf(t *testing.T, account string) *x509.Certificate {
	t.Helper()
	m := newMesh(t, "")
	id, err := identity.Parse("spiffe://cluster.local/ns/foo/sa/" + account)
	check(t, err)
	chain, err := m.authority.Sign([]byte(request(t)), id, time.Hour)
	check(t, err)
	certs, err := identity.ParseCertificates([]byte(chain[0]))
	check(t, err)
	return certs[0]
}

// TestTokensOfSeveralClusters: the API server of the cluster that the caller names
// decides, and nobody passes for a pod of another one.
func TestTokensOfSeveralClusters(t *testing.T) {
	own := newAPIServer(map[string]string{"own": "foo:default", "both": "foo:default"})
	remote := newAPIServer(map[string]string{"remote": "foo:default", "both": "foo:other"})
	auth, err := ca.NewAuthenticator(own, ca.AuthConfig{Cluster: "c1", Remote: func(cluster string) kubernetes.Interface {
		if cluster == "c2" {
			return remote
		}
		return nil
	}})
	check(t, err)
	leaf := certificateOf(t, "default")

	for name, tc := range map[string]struct {
		caller  caller
		account string // proven
		cluster string // proven
		code    codes.Code
		says    string
	}{
		"a token, and no word of a cluster": {caller{token: "own"}, "default", "c1", codes.OK, ""},
		"an empty word":                     {caller{token: "own", clusters: []string{""}}, "default", "c1", codes.OK, ""},
		"the own cluster":                   {caller{token: "own", clusters: []string{"c1"}}, "default", "c1", codes.OK, ""},
		"the other cluster":                 {caller{token: "remote", clusters: []string{"c2"}}, "default", "c2", codes.OK, ""},
		"the other's pod says it is ours":   {caller{token: "remote", clusters: []string{"c1"}}, "", "", codes.Unauthenticated, "not accepted"},
		"our pod says it is the other's":    {caller{token: "own", clusters: []string{"c2"}}, "", "", codes.Unauthenticated, "not accepted"},
		// What one API server said of a token holds for no other.
		"a token that both know, here":  {caller{token: "both"}, "default", "c1", codes.OK, ""},
		"a token that both know, there": {caller{token: "both", clusters: []string{"c2"}}, "other", "c2", codes.OK, ""},
		"a cluster that nobody knows":   {caller{token: "own", clusters: []string{"c3"}}, "", "", codes.Unavailable, `cluster "c3"`},
		"two clusters":                  {caller{token: "own", clusters: []string{"c1", "c2"}}, "", "", codes.Unauthenticated, "more than one cluster"},
		// Beside a certificate.
		"a certificate alone":              {caller{certificate: leaf}, "default", "", codes.OK, ""},
		"a certificate and its cluster":    {caller{certificate: leaf, token: "remote", clusters: []string{"c2"}}, "default", "c2", codes.OK, ""},
		"a certificate, another's token":   {caller{certificate: leaf, token: "both", clusters: []string{"c2"}}, "", "", codes.Unauthenticated, "the token of"},
		"a certificate, a bad token":       {caller{certificate: leaf, token: "none", clusters: []string{"c2"}}, "default", "", codes.OK, ""},
		"a certificate, an unread cluster": {caller{certificate: leaf, token: "own", clusters: []string{"c3"}}, "default", "", codes.OK, ""},
		"a certificate and only a word":    {caller{certificate: leaf, clusters: []string{"c2"}}, "default", "", codes.OK, ""},
	} {
		t.Run(name, func(t *testing.T) {
			proof, err := auth.Authenticate(tc.caller.context(t.Context()))
			if status.Code(err) != tc.code || err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("%v, want %s with %q", err, tc.code, tc.says)
			}
			if err == nil && (proof.ID.ServiceAccount != tc.account || proof.Cluster != tc.cluster) {
				t.Errorf("proven is %+v", proof)
			}
		})
	}
}

// TestAPIServerOfAnotherIsGone: its proxies come in by their certificates, and
// those of other clusters as ever.
func TestAPIServerOfAnotherIsGone(t *testing.T) {
	own := newAPIServer(map[string]string{"own": "foo:default"})
	remote := newAPIServer(nil)
	remote.gone = errors.New("no answer")
	auth, err := ca.NewAuthenticator(own, ca.AuthConfig{Cluster: "c1", Remote: func(string) kubernetes.Interface { return remote }})
	check(t, err)
	leaf := certificateOf(t, "default")

	proof, err := auth.Authenticate(caller{certificate: leaf, token: "remote", clusters: []string{"c2"}}.context(t.Context()))
	if err != nil || proof.Cluster != "" || proof.ID.ServiceAccount != "default" {
		t.Errorf("by certificate: %+v, %v", proof, err)
	}
	if _, err := auth.AuthenticateToken(caller{token: "remote", clusters: []string{"c2"}}.context(t.Context())); status.Code(err) != codes.Unavailable {
		t.Errorf("by token: %v", err)
	}
	if proof, err := auth.Authenticate(caller{token: "own"}.context(t.Context())); err != nil || proof.Cluster != "c1" {
		t.Errorf("of the own cluster: %+v, %v", proof, err)
	}
}

// TestHangingAPIServerHoldsUpNobodyElse: the turns of reviews are each cluster's
// own.
func TestHangingAPIServerHoldsUpNobodyElse(t *testing.T) {
	own := newAPIServer(map[string]string{"own": "foo:default"})
	hangs := make(chan struct{})
	remote := fake.NewClientset()
	remote.PrependReactor("create", "tokenreviews", func(clienttesting.Action) (bool, runtime.Object, error) {
		<-hangs
		return true, nil, errors.New("late")
	})
	auth, err := ca.NewAuthenticator(own, ca.AuthConfig{Cluster: "c1", Remote: func(string) kubernetes.Interface { return remote }})
	check(t, err)

	// More than there are turns, from as many addresses as that takes.
	var done []chan struct{}
	for i := range 40 {
		ctx := peer.NewContext(caller{token: strings.Repeat("x", i+1), clusters: []string{"c2"}}.context(t.Context()), &peer.Peer{Addr: tcp(i)})
		end := make(chan struct{})
		done = append(done, end)
		go func() {
			defer close(end)
			_, _ = auth.AuthenticateToken(ctx)
		}()
	}
	time.Sleep(50 * time.Millisecond)
	start := time.Now()
	if _, err := auth.AuthenticateToken(caller{token: "own"}.context(t.Context())); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("the own cluster's token took %s", took)
	}
	close(hangs)
	for _, d := range slices.Backward(done) {
		<-d
	}
}

// tcp is an address of its own for each number.
type tcp int

func (tcp) Network() string { return "tcp" }
func (n tcp) String() string {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), 1).String()
}
