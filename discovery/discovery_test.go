package discovery

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/klog/v2"

	"github.com/isthmus-mesh/isthmus/ca"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/test/leak"
	"github.com/isthmus-mesh/isthmus/xds/fetch"
)

func TestMain(m *testing.M) {
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	leak.Main(m)
}

// token is what the fake API server takes for the account shop/caller's.
const token = "token-of-shop-caller"

// controlPlane is a control plane that runs on loopback over a fake API server.
type controlPlane struct {
	t      *testing.T
	client *fake.Clientset
	at     Addresses
	dir    string
}

// startControlPlane runs one until the test ends.
func startControlPlane(t *testing.T, objects ...runtime.Object) *controlPlane {
	t.Helper()
	c := &controlPlane{t: t, client: fake.NewClientset(objects...), dir: t.TempDir()}
	c.client.PrependReactor("create", "tokenreviews", reviewToken)

	cfg := complete()
	cfg.Clients.Kube = c.client
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.StopDelay, cfg.Drain = 0, time.Second
	cfg.Listen = Addresses{
		XDS: "127.0.0.1:0", PlainXDS: "127.0.0.1:0", Webhooks: "127.0.0.1:0",
		Monitoring: "127.0.0.1:0", Readiness: "127.0.0.1:0",
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.at = s.Addresses()
	c.background(s.Run)
	c.eventually("ready", func() bool {
		code, _ := c.get(c.at.Readiness, "/ready")
		return code == http.StatusOK
	})
	return c
}

// background runs a part until the test ends; it must end well.
func (c *controlPlane) background(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	c.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Error(err)
		}
	})
}

func (c *controlPlane) eventually(what string, holds func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatal("never came: " + what)
		}
	}
}

// get fetches a page; the status is 0 when nobody answers.
func (c *controlPlane) get(addr, path string) (int, string) {
	c.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Get("http://" + addr + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// root is the root that the control plane has made.
func (c *controlPlane) root() []byte {
	c.t.Helper()
	secret, err := c.client.CoreV1().Secrets("istio-system").Get(c.t.Context(), ca.SecretSelfSigned, metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return secret.Data[ca.FileCert]
}

// write writes a file for a proxy.
func (c *controlPlane) write(name string, data []byte) string {
	c.t.Helper()
	file := filepath.Join(c.dir, name)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		c.t.Fatal(err)
	}
	return file
}

func reviewToken(a clienttesting.Action) (bool, runtime.Object, error) {
	r := a.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview).DeepCopy()
	if r.Spec.Token == token {
		r.Status = authenticationv1.TokenReviewStatus{
			Authenticated: true, Audiences: r.Spec.Audiences,
			User: authenticationv1.UserInfo{Username: "system:serviceaccount:shop:caller"},
		}
	}
	return true, r, nil
}

// names are the resources that a proxy was sent.
type names struct {
	mu   sync.Mutex
	seen map[string]bool
	more chan struct{} // never closed: nothing is asked for by name
}

func (n *names) Apply(_ string, added []fetch.Resource, _ []string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range added {
		n.seen[r.Name] = true
	}
	return nil
}

func (n *names) Wanted(string) []string         { return nil }
func (n *names) WantedChanged() <-chan struct{} { return n.more }

func (n *names) has(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.seen[name]
}

// proxy lets a sidecar of the account shop/caller join, until the test ends, and
// gives what it is sent.
func (c *controlPlane) proxy() *names {
	c.t.Helper()
	source, err := identity.NewSource(identity.Config{
		ID:         identity.ID{TrustDomain: identity.DefaultTrustDomain, Namespace: "shop", ServiceAccount: "caller"},
		CA:         &identity.CAClient{Address: c.at.XDS, TokenFile: c.write("token", []byte(token))},
		ServerName: "istiod.istio-system.svc",
		RootFile:   c.write("root-cert.pem", c.root()),
		StateDir:   c.dir,
		Logger:     slog.New(slog.DiscardHandler),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.background(source.Run)
	c.eventually("certificate", func() bool {
		err := source.Err()
		return err == nil && source.Certificate() != nil
	})

	meta, err := structpb.NewStruct(map[string]any{"CLUSTER_ID": "Kubernetes", "SERVICE_ACCOUNT": "caller"})
	if err != nil {
		c.t.Fatal(err)
	}
	got := &names{seen: map[string]bool{}, more: make(chan struct{})}
	client, err := fetch.New(fetch.Config{
		Address: c.at.XDS, TLS: source.DiscoveryTLS, Handler: got,
		Node: &corev3.Node{Id: "sidecar~10.1.0.9~caller-1.shop~shop.svc.cluster.local", Metadata: meta},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.background(client.Run)
	return got
}

// TestProxyJoins: a proxy with the root and a token gets a certificate, and with
// the certificate the configuration that the cluster's objects make, and changes
// to them.
func TestProxyJoins(t *testing.T) {
	c := startControlPlane(t, webService("web"))

	got := c.proxy()
	c.eventually("the cluster of web", func() bool { return got.has("outbound|80||web.shop.svc.cluster.local") })

	_, err := c.client.CoreV1().Services("shop").Create(t.Context(), webService("more"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.eventually("the cluster of more", func() bool { return got.has("outbound|80||more.shop.svc.cluster.local") })

	if _, page := c.get(c.at.Monitoring, "/debug/syncz"); !strings.Contains(page, "caller-1.shop") {
		t.Errorf("the proxy is not among those that are connected:\n%s", page)
	}
}

func webService(name string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Spec: corev1.ServiceSpec{
			ClusterIP: "10.96.0.10", ClusterIPs: []string{"10.96.0.10"},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80}},
		},
	}
}

// TestWebhooksAnswer: at the port of the webhooks, over TLS that the root proves.
func TestWebhooksAnswer(t *testing.T) {
	c := startControlPlane(t)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.root())
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{RootCAs: roots, ServerName: "istiod.istio-system.svc"},
	}}

	const review = `{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
		"uid": "1", "operation": "CREATE", "namespace": "shop", "name": "odd",
		"kind": {"group": "security.istio.io", "version": "v1", "kind": "PeerAuthentication"},
		"object": {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
			"metadata": {"namespace": "shop", "name": "odd"}, "spec": {"mtls": {"mode": "STRIKT"}}}}}`
	resp, err := client.Post("https://"+c.at.Webhooks+"/validate", "application/json", strings.NewReader(review))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || !bytes.Contains(answer, []byte(`"allowed":false`)) {
		t.Errorf("%s %s", resp.Status, answer)
	}
	if _, page := c.get(c.at.Monitoring, "/metrics"); !strings.Contains(page, `isthmus_validation_total{allowed="false",kind="PeerAuthentication"} 1`) {
		t.Errorf("the refusal is not counted:\n%s", page)
	}
}

// TestPortThatIsTaken is told when the control plane is made, and leaves no other
// port open.
func TestPortThatIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()

	cfg := complete()
	cfg.Listen = Addresses{XDS: free.Addr().String(), Readiness: taken.Addr().String()}
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Errorf("got %v", err)
	}
	again, err := net.Listen("tcp", free.Addr().String())
	if err != nil {
		t.Fatalf("a port stays open: %v", err)
	}
	again.Close()
}

// TestNotReadyWithoutAPIServer: the probe is answered while the API server is
// away, and the control plane ends when it is told to.
func TestNotReadyWithoutAPIServer(t *testing.T) {
	client := fake.NewClientset()
	client.PrependReactor("*", "*", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, io.ErrUnexpectedEOF
	})
	cfg := complete()
	cfg.Clients.Kube = client
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.Listen = Addresses{Readiness: "127.0.0.1:0", Monitoring: "127.0.0.1:0"}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c := &controlPlane{t: t, at: s.Addresses()}
	c.background(s.Run)
	c.eventually("an answer", func() bool {
		code, page := c.get(c.at.Readiness, "/ready")
		if code == http.StatusOK {
			t.Fatalf("ready: %s", page)
		}
		return code == http.StatusServiceUnavailable
	})
}
