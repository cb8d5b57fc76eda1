package remotesecret

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/isthmus-mesh/isthmus/charts"
)

// cluster answers as an API server that keeps what is applied to it.
type cluster struct {
	*httptest.Server
	ownName   string // what its istiod calls it
	forbidden string // part of the paths that are refused to everybody
	lacks     string // the resource that the account may not touch
	grants    time.Duration

	mu      sync.Mutex
	objects map[string][]byte // by path
	applied []string
	asked   []string // seconds of tokens asked for
	reviews []string // what the account asked about itself
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{objects: map[string][]byte{"/api/v1/namespaces/kube-system": []byte(`{"metadata":{"name":"kube-system","uid":"uid-1"}}`)}}
	c.Server = httptest.NewTLSServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *cluster) config() *rest.Config {
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate().Raw})
	return &rest.Config{Host: c.URL, BearerToken: "admin", TLSClientConfig: rest.TLSClientConfig{CAData: ca}, QPS: -1,
		ContentConfig: rest.ContentConfig{ContentType: "application/json"}}
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	body, _ := io.ReadAll(r.Body)
	fail := func(code int, reason string) {
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"code":%d,"message":"%s %s"}`, reason, code, r.Method, r.URL.Path)
	}
	last := path.Base(r.URL.Path)
	switch {
	case c.forbidden != "" && strings.Contains(r.URL.Path, c.forbidden):
		fail(http.StatusForbidden, "Forbidden")
	case last == "configmaps":
		fmt.Fprintf(w, `{"kind":"ConfigMapList","apiVersion":"v1","items":[{"data":{"values":"global: {multiCluster: {clusterName: %s}}"}}]}`, c.ownName)
	case last == "selfsubjectaccessreviews":
		c.review(w, r, body)
	case last == "token":
		c.token(w, body)
	case r.Method == http.MethodGet && c.objects[r.URL.Path] != nil:
		_, _ = w.Write(c.objects[r.URL.Path])
	case r.Method == http.MethodPatch:
		c.applied = append(c.applied, r.URL.Path)
		c.objects[r.URL.Path] = body
		_, _ = w.Write(body)
	case r.Method == http.MethodPost:
		c.create(w, r.URL.Path, body)
	default:
		fail(http.StatusNotFound, "NotFound")
	}
}

// create keeps an object, and fills it when it is a token's.
func (c *cluster) create(w http.ResponseWriter, at string, body []byte) {
	var o map[string]any
	_ = json.Unmarshal(body, &o)
	name, _ := o["metadata"].(map[string]any)["name"].(string)
	if o["type"] == "kubernetes.io/service-account-token" {
		o["data"] = map[string]any{"token": []byte("static-token")}
	}
	kept, _ := json.Marshal(o)
	c.applied = append(c.applied, at+"/"+name)
	c.objects[at+"/"+name] = kept
	_, _ = w.Write(kept)
}

func (c *cluster) token(w http.ResponseWriter, body []byte) {
	var ask struct {
		Spec struct {
			ExpirationSeconds int64 `json:"expirationSeconds"`
		} `json:"spec"`
	}
	_ = json.Unmarshal(body, &ask)
	c.asked = append(c.asked, fmt.Sprint(ask.Spec.ExpirationSeconds))
	life := time.Duration(ask.Spec.ExpirationSeconds) * time.Second
	if c.grants > 0 {
		life = c.grants
	}
	fmt.Fprintf(w, `{"kind":"TokenRequest","apiVersion":"authentication.k8s.io/v1","status":{"token":"bound-token","expirationTimestamp":%q}}`,
		time.Now().Add(life).UTC().Format(time.RFC3339))
}

func (c *cluster) review(w http.ResponseWriter, r *http.Request, body []byte) {
	// This client is not made by config, and may write protobuf.
	decoded, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
	if err != nil {
		panic(err)
	}
	a := decoded.(*authorizationv1.SelfSubjectAccessReview).Spec.ResourceAttributes
	c.reviews = append(c.reviews, r.Header.Get("Authorization")+" "+a.Verb+" "+a.Resource+"/"+a.Subresource+"/"+a.Name)
	fmt.Fprintf(w, `{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","status":{"allowed":%v}}`, a.Resource != c.lacks)
}

// make makes a Secret and gives back its kubeconfig and what was told.
func (c *cluster) make(t *testing.T, o Options) (*clientcmdapi.Config, string, error) {
	t.Helper()
	var told strings.Builder
	o.Namespace, o.Charts = "istio-system", charts.FS
	o.Tell = func(s string) { told.WriteString(s + "\n") }
	if o.Duration == 0 {
		o.Duration = 168 * time.Hour
	}
	s, err := Make(t.Context(), c.config(), o)
	if err != nil {
		return nil, told.String(), err
	}
	name := s.Annotations[ClusterAnnotation]
	if s.Name != "istio-remote-secret-"+strings.ToLower(name) || s.Namespace != "istio-system" || s.Labels[Label] != "true" || len(s.StringData) != 1 {
		t.Errorf("the Secret is %+v", s)
	}
	config, err := clientcmd.Load([]byte(s.StringData[name]))
	if err != nil {
		t.Fatal(err)
	}
	if config.CurrentContext != name || len(config.Clusters)+len(config.AuthInfos)+len(config.Contexts) != 3 {
		t.Errorf("the kubeconfig is %+v", config)
	}
	return config, told.String(), nil
}

// TestMake: the account is made once, the Secret proves itself by a token with an
// end and knows the API server by its certificate.
func TestMake(t *testing.T) {
	c := newCluster(t)
	config, told, err := c.make(t, Options{Name: "cluster2"})
	if err != nil {
		t.Fatal(err)
	}
	if got := config.Clusters["cluster2"]; got.Server != c.URL || !bytes.Equal(got.CertificateAuthorityData, c.config().CAData) || got.InsecureSkipTLSVerify {
		t.Errorf("the cluster is %+v", got)
	}
	if got := config.AuthInfos["cluster2"]; got.Token != "bound-token" {
		t.Errorf("the user is %v", got)
	}
	if !slices.Equal(c.asked, []string{"604800"}) {
		t.Errorf("tokens of %v seconds were asked for", c.asked)
	}
	want := []string{
		"/api/v1/namespaces/istio-system",
		"/api/v1/namespaces/istio-system/serviceaccounts/istio-reader-service-account",
		"/apis/rbac.authorization.k8s.io/v1/clusterroles/istio-reader-istio-system",
		"/apis/rbac.authorization.k8s.io/v1/namespaces/istio-system/roles/istio-reader",
		"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/istio-reader-istio-system",
		"/apis/rbac.authorization.k8s.io/v1/namespaces/istio-system/rolebindings/istio-reader",
	}
	if !slices.Equal(c.applied, want) {
		t.Errorf("made:\n%s\nwant\n%s", strings.Join(c.applied, "\n"), strings.Join(want, "\n"))
	}
	for _, want := range []string{"made in the cluster: Namespace/istio-system, ServiceAccount/", "leads to this machine only", "the token ends"} {
		if !strings.Contains(told, want) {
			t.Errorf("not told %q in\n%s", want, told)
		}
	}
	// Tried with the token itself, about each right.
	for _, want := range []string{"watch services//", "watch endpointslices//", "watch servicecidrs//", "watch serviceexports//", "patch serviceexports/status/", "create tokenreviews//", "create serviceaccounts/token/istio-reader-service-account"} {
		if !slices.Contains(c.reviews, "Bearer bound-token "+want) {
			t.Errorf("%q was not asked; asked were %q", want, c.reviews)
		}
	}

	c.applied = nil
	if _, told, err = c.make(t, Options{Name: "cluster2"}); err != nil || len(c.applied) > 0 || strings.Contains(told, "made in") {
		t.Errorf("a second time: %v, made %q, told %s", err, c.applied, told)
	}
}

// TestMakeOtherwise: what the options change, and what is told of it.
func TestMakeOtherwise(t *testing.T) {
	for name, tc := range map[string]struct {
		cluster func(*cluster)
		o       Options
		told    string
		want    func(*clientcmdapi.Config, *cluster) bool
	}{
		"the cluster's own name": {
			cluster: func(c *cluster) { c.ownName = "remote0" },
			want:    func(k *clientcmdapi.Config, _ *cluster) bool { return k.CurrentContext == "remote0" },
		},
		"no name at all": {
			told: "it is called uid-1",
			want: func(k *clientcmdapi.Config, _ *cluster) bool { return k.CurrentContext == "uid-1" },
		},
		"another name": {
			cluster: func(c *cluster) { c.ownName = "remote0" },
			o:       Options{Name: "cluster2"},
			told:    `was installed as "remote0"`,
			want:    func(k *clientcmdapi.Config, _ *cluster) bool { return k.CurrentContext == "cluster2" },
		},
		"another server": {
			o:    Options{Name: "a", Server: "https://127.0.0.1:1"},
			told: "https://127.0.0.1:1 was not tried",
			want: func(k *clientcmdapi.Config, _ *cluster) bool { return k.Clusters["a"].Server == "https://127.0.0.1:1" },
		},
		"a proxy": {
			o:    Options{Name: "a", ProxyURL: "socks5://127.0.0.1:1"},
			told: "does not do",
			want: func(k *clientcmdapi.Config, _ *cluster) bool {
				return k.Clusters["a"].ProxyURL == "socks5://127.0.0.1:1"
			},
		},
		"a token without an end": {
			o:    Options{Name: "a", Static: true},
			told: "the token has no end",
			want: func(k *clientcmdapi.Config, c *cluster) bool {
				return k.AuthInfos["a"].Token == "static-token" && len(c.asked) == 0
			},
		},
		"a shorter token than asked for": {
			cluster: func(c *cluster) { c.grants = time.Hour },
			o:       Options{Name: "a"},
			told:    "grants no token for longer than about 1h0m0s",
			want:    func(*clientcmdapi.Config, *cluster) bool { return true },
		},
		"a plugin": {
			o:    Options{Name: "a", Plugin: &clientcmdapi.AuthProviderConfig{Name: "oidc", Config: map[string]string{"k": "v"}}},
			told: "by the plugin oidc",
			want: func(k *clientcmdapi.Config, c *cluster) bool {
				return k.AuthInfos["a"].AuthProvider.Config["k"] == "v" && k.AuthInfos["a"].Token == "" && len(c.applied) == 0
			},
		},
		"another account": {
			o:    Options{Name: "a", ServiceAccount: "mine"},
			told: "made in the cluster: Namespace/istio-system, ServiceAccount/istio-system/mine",
			want: func(_ *clientcmdapi.Config, c *cluster) bool {
				return slices.Contains(c.applied, "/apis/rbac.authorization.k8s.io/v1/clusterroles/mine-istio-system") &&
					slices.Contains(c.reviews, "Bearer bound-token create serviceaccounts/token/mine")
			},
		},
		"a right that is missing": {
			cluster: func(c *cluster) { c.lacks = "nodes" },
			o:       Options{Name: "a"},
			told:    "may not watch nodes: give it the rules",
			want:    func(*clientcmdapi.Config, *cluster) bool { return true },
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			if tc.cluster != nil {
				tc.cluster(c)
			}
			config, told, err := c.make(t, tc.o)
			if err != nil {
				t.Fatal(err)
			}
			if !tc.want(config, c) {
				t.Errorf("the kubeconfig is %+v, applied %q, reviews %q", config, c.applied, c.reviews)
			}
			if !strings.Contains(told, tc.told) {
				t.Errorf("not told %q in\n%s", tc.told, told)
			}
		})
	}
}

// TestErrors: what cannot be is refused, with what to do.
func TestErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		cluster func(*cluster)
		o       Options
		want    string
	}{
		"a name that is none":     {o: Options{Name: "a_b"}, want: `--name: "a_b" is not a cluster's name`},
		"an account that is none": {o: Options{Name: "a", ServiceAccount: "A"}, want: "--service-account"},
		"a server without scheme": {o: Options{Name: "a", Server: "192.0.2.1:6443"}, want: "--server: "},
		"a server in plaintext":   {o: Options{Name: "a", Server: "http://192.0.2.1"}, want: "--server: "},
		"too short a life":        {o: Options{Name: "a", Duration: time.Minute}, want: "--token-duration: 1m0s is less than 10m0s"},
		"no right to make roles":  {cluster: func(c *cluster) { c.forbidden = "/clusterroles/" }, o: Options{Name: "a"}, want: "may not do what it takes"},
		"no right to tokens":      {cluster: func(c *cluster) { c.forbidden = "/token" }, o: Options{Name: "a"}, want: "ask for a token of service account istio-reader-service-account"},
		"no account":              {o: Options{Name: "a", KeepOut: true}, want: "there is no service account istio-reader-service-account in namespace istio-system"},
		"nobody there":            {cluster: func(c *cluster) { c.Close() }, o: Options{Name: "a"}, want: "cannot be reached from here"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			if tc.cluster != nil {
				tc.cluster(c)
			}
			if _, _, err := c.make(t, tc.o); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, which does not say %q", err, tc.want)
			}
		})
	}
}
