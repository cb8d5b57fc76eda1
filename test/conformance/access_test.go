package conformance

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/compile"
	"github.com/isthmus-mesh/isthmus/model"
)

// policies puts AuthorizationPolicies of the server's namespace in force, each given by
// its spec in YAML, and takes away those before.
func (p *pair) policies(specs ...string) {
	p.t.Helper()
	txn := p.store.Write()
	for row := range p.store.Policies.All(txn) {
		p.store.Policies.Remove(txn, row.Key())
	}
	txn.Commit()

	for i, spec := range specs {
		doc := fmt.Sprintf("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p%d, namespace: shop}\nspec: %s", i, spec)
		raw, err := yaml.YAMLToJSON([]byte(doc))
		if err != nil {
			p.t.Fatal(err)
		}
		obj, err := api.Decode(raw)
		if err != nil {
			p.t.Fatalf("%s: %v", spec, err)
		}
		put(p, p.store.Policies, compile.AuthorizationPolicy(cluster, obj))
	}
	p.configure()
}

// request is what strangers send to the server's sidecar, in plaintext.
type request struct {
	method, path, host string
	fields             [][2]string
}

// http1 sends a request as it stands, by HTTP/1.1.
func (p *pair) http1(r *request) (status int, body string) {
	p.t.Helper()
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\n", r.method, r.path, r.host)
	for _, f := range r.fields {
		head += f[0] + ": " + f[1] + "\r\n"
	}
	c := p.stranger()
	defer c.Close()
	fmt.Fprintf(c, "%sConnection: close\r\n\r\n", head)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		p.t.Fatalf("%v: %v", r, err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatalf("%v: %v", r, err)
	}
	return resp.StatusCode, string(all)
}

// http2 sends a request as it stands, by HTTP/2. The status is 0 where the stream, or the
// connection, is reset.
func (p *pair) http2(r *request) (status int) {
	p.t.Helper()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range append([][2]string{{":method", r.method}, {":scheme", "http"}, {":authority", r.host}, {":path", r.path}}, r.fields...) {
		if err := enc.WriteField(hpack.HeaderField{Name: strings.ToLower(f[0]), Value: f[1]}); err != nil {
			p.t.Fatal(err)
		}
	}

	c := p.stranger()
	defer c.Close()
	_, _ = io.WriteString(c, http2.ClientPreface)
	fr := http2.NewFramer(c, c)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = fr.WriteSettings()
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	for {
		f, err := fr.ReadFrame()
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			status, _ = strconv.Atoi(f.PseudoValue("status"))
			return status
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return 0
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				return 0
			}
			p.t.Fatalf("%v: %v", r, err)
		}
	}
}

// stranger connects to the server's sidecar without an identity.
func (p *pair) stranger() net.Conn {
	p.t.Helper()
	c, err := net.Dial("tcp", net.JoinHostPort(podAddress, strconv.Itoa(int(p.port))))
	if err != nil {
		p.t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// TestAuthorizationPolicyDecides: from the object to the answer, for a caller of
// namespace client who proves it by mutual TLS, and for a stranger.
func TestAuthorizationPolicyDecides(t *testing.T) {
	p := newPair(t)
	for name, tt := range map[string]struct {
		specs            []string
		caller, stranger int
	}{
		"none":                              {nil, 200, 200},
		"an empty spec refuses everybody":   {[]string{"{}"}, 403, 403},
		"an empty rule allows everybody":    {[]string{"{rules: [{}]}"}, 200, 200},
		"DENY comes first":                  {[]string{"{rules: [{}]}", "{action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]}"}, 403, 403},
		"ALLOW of another leaves it closed": {[]string{"{rules: [{to: [{operation: {methods: [POST]}}]}]}"}, 403, 403},
		"one of several allows":             {[]string{"{}", "{rules: [{to: [{operation: {methods: [GET]}}]}]}"}, 200, 200},
		"its namespace":                     {[]string{"{rules: [{from: [{source: {namespaces: [client]}}]}]}"}, 200, 403},
		"another namespace":                 {[]string{"{rules: [{from: [{source: {namespaces: [shop, cli]}}]}]}"}, 403, 403},
		"not its namespace":                 {[]string{"{rules: [{from: [{source: {notNamespaces: [client]}}]}]}"}, 403, 200},
		"its principal":                     {[]string{"{rules: [{from: [{source: {principals: [cluster.local/ns/client/sa/caller]}}]}]}"}, 200, 403},
		"any principal":                     {[]string{`{rules: [{from: [{source: {principals: ["*"]}}]}]}`}, 200, 403},
		"no principal refused":              {[]string{`{action: DENY, rules: [{from: [{source: {notPrincipals: ["*"]}}]}]}`}, 200, 403},
		"its account":                       {[]string{"{rules: [{from: [{source: {serviceAccounts: [client/caller]}}]}]}"}, 200, 403},
		"an account of the policy's own":    {[]string{"{rules: [{from: [{source: {serviceAccounts: [caller]}}]}]}"}, 403, 403},
		"an address":                        {[]string{"{rules: [{from: [{source: {ipBlocks: [127.0.0.0/8]}}]}]}"}, 200, 200},
		"another address":                   {[]string{"{rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}]}"}, 403, 403},
		"a port":                            {[]string{fmt.Sprintf(`{rules: [{to: [{operation: {ports: ["%d"]}}]}]}`, p.port)}, 200, 200},
		"another port":                      {[]string{`{rules: [{to: [{operation: {ports: ["1"]}}]}]}`}, 403, 403},
		"a host":                            {[]string{"{rules: [{to: [{operation: {hosts: [WEB.shop]}}]}]}"}, 200, 200},
		"a token that nobody verifies":      {[]string{`{rules: [{from: [{source: {requestPrincipals: ["*"]}}]}]}`}, 403, 403},
		"a token that nobody has, refused":  {[]string{`{action: DENY, rules: [{from: [{source: {notRequestPrincipals: ["*"]}}]}]}`}, 403, 403},
		"a header field":                    {[]string{`{rules: [{when: [{key: "request.headers[x-role]", values: [user]}]}]}`}, 200, 200},
		"without a header field":            {[]string{`{rules: [{when: [{key: "request.headers[x-role]", notValues: [user]}]}]}`}, 403, 403},
		"a path with open segments":         {[]string{`{rules: [{to: [{operation: {paths: ["/{*}/b"]}}]}]}`}, 200, 200},
		"a path with too few of them":       {[]string{`{rules: [{to: [{operation: {paths: ["/{*}/{*}/b"]}}]}]}`}, 403, 403},
		"of other workloads":                {[]string{"{selector: {matchLabels: {app: other}}}"}, 200, 200},
		"of this workload":                  {[]string{"{selector: {matchLabels: {app: web}}}"}, 403, 403},
	} {
		t.Run(name, func(t *testing.T) {
			p.t = t
			p.policies(tt.specs...)
			status, _, body := p.ask(webVIP, 80, "GET /a/b HTTP/1.1\r\nHost: web.shop\r\nx-role: user\r\n")
			if status != tt.caller {
				t.Errorf("the caller is answered with %d, want %d: %s", status, tt.caller, body)
			}
			if status == http.StatusForbidden && body != "RBAC: access denied" {
				t.Errorf("the body is %q", body)
			}
			r := request{method: "GET", path: "/a/b", host: "web.shop", fields: [][2]string{{"x-role", "user"}}}
			if status, _ := p.http1(&r); status != tt.stranger {
				t.Errorf("the stranger is answered with %d, want %d", status, tt.stranger)
			}
			if status := p.http2(&r); status != tt.stranger {
				t.Errorf("the stranger is answered with %d in HTTP/2, want %d", status, tt.stranger)
			}
		})
	}
}

// TestWaysAroundAPolicy: ways by which policies of other proxies were evaded, in both
// HTTP versions. Each request asks for what the policy keeps from everybody.
func TestWaysAroundAPolicy(t *testing.T) {
	p := newPair(t)
	const (
		noAdmin  = `{action: DENY, rules: [{to: [{operation: {paths: ["/admin", "/admin/*"]}}]}]}`
		onlyOpen = `{rules: [{to: [{operation: {paths: ["/open/*"]}}]}]}`
		noHost   = `{action: DENY, rules: [{to: [{operation: {hosts: [secret.shop, "*.inner.example"]}}]}]}`
		noRole   = `{action: DENY, rules: [{when: [{key: "request.headers[x-role]", values: [admin]}]}]}`
		userOnly = `{rules: [{when: [{key: "request.headers[x-role]", values: [user]}]}]}`
		noMethod = `{action: DENY, rules: [{to: [{operation: {paths: ["/pkg.Bank/Pay"], methods: [POST]}}]}]}`
		xfcc     = `{rules: [{when: [{key: "request.headers[x-forwarded-client-cert]", values: ["*caller"]}]}]}`
		members  = `{rules: [{from: [{source: {namespaces: [client]}}]}]}`
	)
	field := func(f ...string) (out [][2]string) {
		for i := 0; i < len(f); i += 2 {
			out = append(out, [2]string{f[i], f[i+1]})
		}
		return out
	}
	for _, tt := range []struct {
		name, policy string
		request
		// only1 is for what HTTP/2 has no words for; refused is the status of what is no
		// proper request, 403 when 0.
		only1   bool
		refused int
	}{
		{name: "two slashes", policy: noAdmin, request: request{path: "//admin"}},
		{name: "many slashes", policy: noAdmin, request: request{path: "/x/..///admin//users"}},
		{name: "a dot segment", policy: noAdmin, request: request{path: "/./admin"}},
		{name: "two dots", policy: noAdmin, request: request{path: "/x/../admin"}},
		{name: "encoded dots", policy: noAdmin, request: request{path: "/x/%2e%2E/admin"}},
		{name: "an encoded slash", policy: noAdmin, request: request{path: "/admin%2fusers"}},
		{name: "an encoded backslash", policy: noAdmin, request: request{path: "/admin%5Cusers"}},
		{name: "a backslash", policy: noAdmin, request: request{path: `/x\..\admin`}},
		{name: "encoded twice", policy: noAdmin, request: request{path: "/admin%252fusers"}},
		{name: "a parameter", policy: noAdmin, request: request{path: "/admin;x=y"}},
		{name: "a letter encoded", policy: noAdmin, request: request{path: "/%61dmin"}},
		{name: "a query", policy: noAdmin, request: request{path: "/admin?/open/"}},
		{name: "a fragment", policy: noAdmin, request: request{path: "/admin#x"}, refused: 400},
		{name: "absolute form", policy: noAdmin, request: request{path: "http://web.shop/admin"}, only1: true},
		{name: "out of what is open by an encoded slash", policy: onlyOpen, request: request{path: "/open/..%2fadmin"}},
		{name: "out of what is open by a parameter", policy: onlyOpen, request: request{path: "/open/..;/admin"}},
		{name: "a path that differs by case from what is open", policy: onlyOpen, request: request{path: "/OPEN/x"}},
		{name: "a host with a port", policy: noHost, request: request{host: "secret.shop:80"}},
		{name: "a host with a dot", policy: noHost, request: request{host: "secret.shop."}},
		{name: "a host with both", policy: noHost, request: request{host: "secret.shop.:8080"}},
		{name: "a host in capitals", policy: noHost, request: request{host: "SECRET.Shop"}},
		{name: "a host of a wildcard with a port", policy: noHost, request: request{host: "A.inner.EXAMPLE.:80"}},
		{name: "the host in the target", policy: noHost, request: request{host: "web.shop", path: "http://secret.shop/"}, only1: true},
		{name: "two fields", policy: noRole, request: request{fields: field("x-role", "user", "x-role", "admin")}},
		{name: "a field with an underscore", policy: noRole, request: request{fields: field("x_role", "admin")}},
		{name: "a field in capitals", policy: noRole, request: request{fields: field("X-ROLE", "admin")}},
		{name: "two fields for one that is asked for", policy: userOnly, request: request{fields: field("x-role", "user", "x-role", "admin")}},
		{name: "an underscore beside what is asked for", policy: userOnly, request: request{fields: field("x-role", "user", "x_role", "admin")}},
		{name: "a field that is not passed on", policy: userOnly, request: request{fields: field("x-role", "user", "Connection", "x-role")}, only1: true},
		{name: "gRPC's method by path", policy: noMethod, request: request{method: "POST", path: "/pkg.Bank//Pay", fields: field("content-type", "application/json")}},
		{name: "a forged certificate", policy: xfcc, request: request{fields: field("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/client/sa/caller")}},
		{name: "a forged identity", policy: members, request: request{fields: field("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/client/sa/caller", "x-forwarded-for", "127.0.0.1")}},
		{name: "an upgrade to HTTP/2", policy: noAdmin, only1: true,
			request: request{path: "/admin", fields: field("Connection", "Upgrade, HTTP2-Settings", "Upgrade", "h2c", "HTTP2-Settings", "AAMAAABkAAQCAAAAAAIAAAAA")}},
		{name: "a web socket", policy: noAdmin, only1: true, request: request{path: "/admin", fields: field("Connection", "Upgrade", "Upgrade", "websocket")}},
		{name: "CONNECT", policy: "{}", request: request{method: "CONNECT", path: "web.shop:80"}, only1: true, refused: 405},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p.t = t
			p.policies(tt.policy)
			r := tt.request
			for _, d := range []struct {
				field *string
				value string
			}{{&r.method, "GET"}, {&r.path, "/"}, {&r.host, "web.shop"}} {
				if *d.field == "" {
					*d.field = d.value
				}
			}
			want := tt.refused
			if want == 0 {
				want = http.StatusForbidden
			}
			if status, body := p.http1(&r); status != want {
				t.Errorf("HTTP/1.1: %d, want %d: %s", status, want, body)
			}
			if tt.only1 {
				return
			}
			if status := p.http2(&r); status != want && !(want == 400 && status == 0) {
				t.Errorf("HTTP/2: %d, want %d", status, want)
			}
		})
	}
}

// TestAuthorizationPolicyForTCP: where no requests are seen, rules about them allow
// nobody, and refuse everybody.
func TestAuthorizationPolicyForTCP(t *testing.T) {
	p := newPair(t)
	put(p, p.store.Services, &model.Service{
		Host: "web.shop.svc.cluster.local", Cluster: cluster, Namespace: "shop", Name: "web", Selector: map[string]string{"app": "web"},
		Ports: []model.Port{{Name: "tcp", Number: 80, Protocol: model.TCP, Target: p.port}},
	})
	for name, tt := range map[string]struct {
		spec     string
		admitted bool
	}{
		"everybody":                     {"{rules: [{}]}", true},
		"nobody":                        {"{}", false},
		"by its address":                {"{rules: [{from: [{source: {ipBlocks: [127.0.0.0/8]}}]}]}", true},
		"by an identity":                {"{rules: [{from: [{source: {namespaces: [client]}}]}]}", false},
		"allowed by method":             {"{rules: [{to: [{operation: {methods: [GET]}}]}]}", false},
		"allowed by method or port":     {fmt.Sprintf(`{rules: [{to: [{operation: {methods: [GET]}}]}, {to: [{operation: {ports: ["%d"]}}]}]}`, p.port), true},
		"refused by method":             {"{action: DENY, rules: [{to: [{operation: {methods: [POST]}}]}]}", false},
		"refused by method, of another": {"{action: DENY, rules: [{from: [{source: {namespaces: [client]}}], to: [{operation: {methods: [POST]}}]}]}", true},
		"refused by a header field":     {`{action: DENY, rules: [{when: [{key: "request.headers[x]", values: ["1"]}]}]}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			p.t = t
			p.policies(tt.spec)
			c := p.stranger()
			defer c.Close()
			fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
			answer, err := io.ReadAll(c)
			if got := strings.HasPrefix(string(answer), "HTTP/1.1 200"); got != tt.admitted {
				t.Errorf("admitted %t, want %t: %q, %v", got, tt.admitted, answer, err)
			}
		})
	}
}
