package clusters

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/isthmus-mesh/isthmus/test/rig/apiserver"
)

// jwt is a token of the account istio-system/reader, unsigned; one without a life
// does not end.
func jwt(begins time.Time, life time.Duration) string {
	c := map[string]any{
		"sub": "system:serviceaccount:istio-system:reader", "aud": []string{"api"},
		"iat": begins.Unix(), "jti": begins.UnixNano(),
	}
	if life > 0 {
		c["exp"] = begins.Add(life).Unix()
	}
	raw, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(`{"alg":"none"}`)) + "." + enc(raw) + "." + enc([]byte("x"))
}

func TestReadClaims(t *testing.T) {
	begins := time.Unix(1_700_000_000, 0)
	c, err := readClaims(jwt(begins, time.Hour))
	if err != nil || !c.begins().Equal(begins) || !c.ends().Equal(begins.Add(time.Hour)) || !slices.Equal(c.Audiences, []string{"api"}) {
		t.Errorf("got %+v, %v", c, err)
	}
	if ns, name, ok := c.account(); !ok || ns != "istio-system" || name != "reader" {
		t.Errorf("account %s/%s", ns, name)
	}
	if c, err := readClaims(jwt(begins, 0)); err != nil || !c.ends().IsZero() {
		t.Errorf("a token that does not end: %+v, %v", c, err)
	}
	one := "e." + base64.RawURLEncoding.EncodeToString([]byte(`{"aud":"api","sub":"user","exp":1.5}`)) + ".s"
	c, err = readClaims(one)
	if _, _, account := c.account(); err != nil || account || !slices.Equal(c.Audiences, []string{"api"}) || c.ends().UnixMilli() != 1500 {
		t.Errorf("one audience, a fraction of a second: %+v, %v", c, err)
	}
	for _, text := range []string{"", "abc", "a.b", "a.!.c", "a.e30x.c"} {
		if _, err := readClaims(text); err == nil {
			t.Errorf("%q is taken for a JWT", text)
		}
	}
}

// issuer lets the server issue tokens, and takes those alone.
type issuer struct {
	server *apiserver.Server
	mu     sync.Mutex
	asked  []authenticationv1.TokenRequest
	refuse bool
}

func (i *issuer) serve(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	raw, err := io.ReadAll(r.Body)
	if err != nil || i.refuse {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":"reader may not create tokens"}`)
		return
	}
	obj, _, err := scheme.Codecs.UniversalDeserializer().Decode(raw, nil, nil)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	req := obj.(*authenticationv1.TokenRequest)
	i.asked = append(i.asked, *req)
	req.TypeMeta = metav1.TypeMeta{Kind: "TokenRequest", APIVersion: "authentication.k8s.io/v1"}
	req.Status.Token = jwt(time.Now(), time.Duration(*req.Spec.ExpirationSeconds)*time.Second)
	// The old one goes on until it ends; here it ends at once.
	i.server.TakeTokens(req.Status.Token)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(req)
}

func (w *world) issuer() *issuer {
	i := &issuer{server: w.remote()}
	i.server.Handle("POST /api/v1/namespaces/istio-system/serviceaccounts/reader/token", i.serve)
	return i
}

// TestRenew: a token is replaced at half of its life, in the Secret, by another
// like it, and the cluster is followed on and on.
func TestRenew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.lead()
	a := w.issuer()
	first := jwt(time.Now(), 4*time.Second)
	a.server.TakeTokens(first)
	w.join("s", "a", a.server.Kubeconfig(first))
	w.eventually("it is read", soon, func() bool { return w.state("a").Status == Synced })
	_, connections := a.server.Connections()

	asked := func() []authenticationv1.TokenRequest {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.asked
	}
	w.eventually("two renewals", 10*time.Second, func() bool { return len(asked()) >= 2 })
	if r := asked()[0].Spec; *r.ExpirationSeconds != 4 || !slices.Equal(r.Audiences, []string{"api"}) {
		t.Errorf("asked for %+v", r)
	}
	secret, err := w.own.CoreV1().Secrets("istio-system").Get(t.Context(), "s", metav1.GetOptions{})
	if err != nil || strings.Contains(string(secret.Data["a"]), first) {
		t.Errorf("the Secret has the first token: %v", err)
	}
	if err := a.server.Apply(web("10.1.0.4")...); err != nil {
		t.Fatal(err)
	}
	w.eventually("a change past the first token's end", soon, func() bool { return w.endpoints("a") == "10.1.0.4" })
	if w.row("a").Stale {
		t.Error("it is stale")
	}
	if _, now := a.server.Connections(); now != connections {
		t.Errorf("%d connections instead of %d: it was read anew", now, connections)
	}
}

// TestNotRenewed: tokens that do not end are left alone, and a renewal that fails
// is told.
func TestNotRenewed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.lead()
	static, barred := w.issuer(), w.issuer()
	barred.refuse = true
	w.join("s-static", "static", static.server.Kubeconfig(jwt(time.Now().Add(-time.Hour), 0)))
	w.join("s-barred", "barred", barred.server.Kubeconfig(jwt(time.Now().Add(-time.Hour), 90*time.Minute)))
	w.eventually("it is told", soon, func() bool {
		s := w.state("barred")
		return s.Status == Synced && strings.Contains(s.Reason, "reader may not create tokens") && !s.TokenEnds.IsZero()
	})
	w.eventually("an Event", soon, func() bool { return w.hasEvent("s-barred", "TokenNotRenewed") })
	if n := static.server.Requests("post serviceaccounts"); n != 0 {
		t.Errorf("a token that does not end was renewed %d times", n)
	}
	time.Sleep(time.Second)
	if n := barred.server.Requests("post serviceaccounts"); n != 1 {
		t.Errorf("asked %d times within a second", n)
	}
}

// TestWithToken: nothing but the token is another, and one that somebody else has
// put there stays.
func TestWithToken(t *testing.T) {
	raw := kubeconfig(t, nil)
	next, err := withToken(raw, nil, "t", "new")
	if err != nil {
		t.Fatal(err)
	}
	was, _ := parseKubeconfig(raw, nil)
	is, err := parseKubeconfig(next, nil)
	if err != nil || !is.sameButToken(was) || is.token != "new" {
		t.Errorf("got %s, %v", next, err)
	}
	if next, err := withToken(raw, nil, "other", "new"); err != nil || next != nil {
		t.Errorf("somebody else's token was replaced: %s, %v", next, err)
	}
}

// TestTokenHasEnded: one that ended while nobody could renew it.
func TestTokenHasEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.remote()
	a.TakeTokens("another")
	w.join("s", "a", a.Kubeconfig(jwt(time.Now().Add(-2*time.Hour), time.Hour)))
	w.eventually("it is told", soon, func() bool {
		s := w.state("a")
		return s.Status == Refused && strings.Contains(s.Reason, "has ended") && w.hasEvent("s", "TokenEnded")
	})
}
