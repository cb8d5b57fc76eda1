package httpproxy

import (
	"net/http"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// TestCORS: what pages of other origins are told, by answers of the endpoint and of the proxy.
func TestCORS(t *testing.T) {
	policy := &config.CORS{
		Origins: []config.StringMatch{{Kind: config.MatchExact, Value: "https://shop.example"}, {Kind: config.MatchPrefix, Value: "https://dev."}},
		Methods: "GET,POST", Headers: "*", Exposed: "x-cart", MaxAge: "60", Credentials: true, ForwardOthers: true,
	}
	for name, c := range map[string]struct {
		method, origin string
		preflight      bool
		path           string // /vary: the answer varies already; /gone: a route of its own without an endpoint
		status         int
		asked          bool // the endpoint was
		want           map[string]string
	}{
		"allowed": {
			method: "GET", origin: "https://shop.example", path: "/", status: 200, asked: true,
			want: map[string]string{
				"Access-Control-Allow-Origin": "https://shop.example", "Access-Control-Allow-Credentials": "true",
				"Access-Control-Expose-Headers": "x-cart", "Vary": "Origin",
			},
		},
		"by its beginning, and what varies": {
			method: "POST", origin: "https://dev.example", path: "/vary", status: 200, asked: true,
			want: map[string]string{"Access-Control-Allow-Origin": "https://dev.example", "Vary": "Accept, origin"},
		},
		"not allowed": {
			method: "GET", origin: "https://evil.example", path: "/", status: 200, asked: true,
			want: map[string]string{"Access-Control-Allow-Origin": "", "Access-Control-Allow-Credentials": "", "Vary": ""},
		},
		"of no page": {
			method: "GET", path: "/", status: 200, asked: true,
			want: map[string]string{"Access-Control-Allow-Origin": "", "Vary": ""},
		},
		"preflight": {
			method: "OPTIONS", origin: "https://shop.example", preflight: true, path: "/", status: 200,
			want: map[string]string{
				"Access-Control-Allow-Origin": "https://shop.example", "Access-Control-Allow-Credentials": "true",
				"Access-Control-Allow-Methods": "GET,POST", "Access-Control-Allow-Headers": "x-mine",
				"Access-Control-Max-Age": "60", "Access-Control-Expose-Headers": "", "Vary": "Origin",
			},
		},
		"preflight that is not allowed": {
			method: "OPTIONS", origin: "https://evil.example", preflight: true, path: "/", status: 200, asked: true,
			want: map[string]string{"Access-Control-Allow-Origin": "", "Access-Control-Allow-Methods": ""},
		},
		"preflight that is not allowed, nor forwarded": {
			method: "OPTIONS", origin: "https://evil.example", preflight: true, path: "/kept", status: 200,
			want: map[string]string{
				"Access-Control-Allow-Origin": "", "Access-Control-Allow-Methods": "", "Access-Control-Allow-Headers": "",
				"Access-Control-Allow-Credentials": "", "Access-Control-Max-Age": "",
			},
		},
		"OPTIONS that asks nothing": {
			method: "OPTIONS", origin: "https://shop.example", path: "/", status: 200, asked: true,
			want: map[string]string{"Access-Control-Allow-Origin": "https://shop.example", "Access-Control-Allow-Methods": ""},
		},
		"an answer of the proxy": {
			method: "GET", origin: "https://shop.example", path: "/gone", status: 503,
			want: map[string]string{"Access-Control-Allow-Origin": "https://shop.example", "Vary": "Origin"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			versions(t, func(t *testing.T, h2 bool, proto config.HTTPProtocol) {
				addr := backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("x-asked", "yes")
					if r.URL.Path == "/vary" {
						w.Header().Set("vary", "Accept, origin")
					}
				}))
				kept := *policy
				kept.ForwardOthers = false
				rc := toCluster("c")
				to := func(path, cluster string, c *config.CORS) *config.Route {
					return &config.Route{Match: config.RouteMatch{Prefix: path}, Action: &config.RouteAction{Cluster: cluster}, CORS: c}
				}
				rc.VirtualHosts[0].Routes = []*config.Route{to("/gone", "nobody", policy), to("/kept", "c", &kept), to("/", "c", policy)}
				h := startHop(t, setup{hcm: config.HCM{Routes: rc}, clusters: []*config.Cluster{staticCluster("c", proto, addr)}})

				req, _ := http.NewRequest(c.method, "http://server.bar:8000"+c.path, nil)
				if c.origin != "" {
					req.Header.Set("origin", c.origin)
				}
				if c.preflight {
					req.Header.Set("access-control-request-method", "PATCH")
					req.Header.Set("access-control-request-headers", "x-mine")
				}
				resp, err := client(t, h.addr, h2).Do(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if asked := resp.Header.Get("x-asked") != ""; resp.StatusCode != c.status || asked != c.asked {
					t.Errorf("status %d, the endpoint was asked: %v", resp.StatusCode, asked)
				}
				for field, want := range c.want {
					if got := strings.Join(resp.Header.Values(field), ", "); got != want {
						t.Errorf("%s: got %q, want %q", field, got, want)
					}
				}
			})
		})
	}
}
