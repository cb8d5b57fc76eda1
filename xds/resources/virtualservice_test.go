package resources

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
)

// virtualService is one in namespace client, where the scene's sidecar is.
func virtualService(name, spec string) string {
	return "---\nkind: VirtualService\nmetadata: {name: " + name + ", namespace: client}\nspec: " + spec + "\n"
}

// virtualHost is that of a host on a port, nil when there is none.
func (s *scene) virtualHost(port, name string) *routev3.VirtualHost {
	s.t.Helper()
	rc := message[*routev3.RouteConfiguration](s, s.client, xds.TypeRoute, port)
	for _, v := range rc.GetVirtualHosts() {
		if slices.Contains(v.Domains, name) {
			return v
		}
	}
	return nil
}

// delegateDoc is a delegate in namespace shop, by whose route requests go to a subset.
func delegateDoc(subset, more string) string {
	return "kind: VirtualService\nmetadata: {name: part, namespace: shop}\nspec: {" + more +
		"http: [{match: [{uri: {prefix: /a/b}}], route: [{destination: {host: web, subset: " + subset + "}}]}]}\n"
}

// TestVirtualServiceDelegates: the routes of a delegate stand in the root's place, follow
// both objects, and are the same rows while neither changes.
func TestVirtualServiceDelegates(t *testing.T) {
	s := newScene(t, virtualService("v", `{hosts: [`+webHost+`], http: [
		{match: [{uri: {prefix: /a}}], delegate: {name: part, namespace: shop}, mirror: {host: `+webHost+`}}, {route: [{destination: {host: `+webHost+`}}]}]}`))
	routes := func() string {
		var out []string
		for _, r := range s.virtualHost("80", webHost).GetRoutes() {
			out = append(out, cmpPath(r.Match)+"="+where(r))
			if n := len(r.GetRoute().GetRequestMirrorPolicies()); n > 0 {
				out = append(out, "mirrored")
			}
		}
		return strings.Join(out, " ")
	}

	const last = "/=outbound|80||" + webHost
	if got := routes(); got != last {
		t.Errorf("without the delegate: %q", got)
	}
	for _, subset := range []string{"v1", "v2"} {
		s.addObject([]byte(delegateDoc(subset, "")))
		if got, want := routes(), "/a/b=outbound|80|"+subset+"|"+webHost+" mirrored "+last; got != want {
			t.Errorf("routes %q, want %q", got, want)
		}
	}

	// What another object changes leaves the row alone.
	i := slices.IndexFunc(s.rules(), func(v *model.VirtualService) bool { return v.Name == "v" })
	before := s.rules()[i]
	s.addObject([]byte(strings.TrimPrefix(virtualService("w", `{hosts: [other.example], http: [{route: [{destination: {host: `+webHost+`}}]}]}`), "---\n")))
	if !slices.Contains(s.rules(), before) {
		t.Error("the routes are merged anew where neither of the two has changed")
	}

	// A delegate that is for another namespace.
	s.addObject([]byte(delegateDoc("v1", "exportTo: [other], ")))
	if got := routes(); got != last {
		t.Errorf("by a delegate that is not shown: %q", got)
	}
}

// rules are the VirtualServices as they count.
func (s *scene) rules() []*model.VirtualService {
	s.source.mu.Lock()
	defer s.source.mu.Unlock()
	return s.source.virtuals.get(s.source.newReaderLocked()).byAge
}

// TestVirtualServiceRoutes holds each field of a route to what Istio makes of it.
func TestVirtualServiceRoutes(t *testing.T) {
	const (
		to    = `route: [{destination: {host: ` + webHost + `}}]`
		any   = `"match": {"prefix": "/"}`
		usual = `"timeout": "0s", "retry_policy": {"retry_on": "connect-failure,refused-stream,unavailable,cancelled", "num_retries": 2}`
		leads = `"route": {"cluster": "outbound|80||` + webHost + `", ` + usual + `}`
	)
	for name, c := range map[string]struct{ route, want string }{
		"exact path": {
			route: `{match: [{uri: {exact: /a}, ignoreUriCase: true}], ` + to + `}`,
			want:  `[{"match": {"path": "/a", "case_sensitive": false}, ` + leads + `}]`,
		},
		"two conditions": {
			route: `{name: r, match: [{name: m, uri: {prefix: /a}}, {uri: {regex: "/b.*"}}], ` + to + `}`,
			want: `[{"name": "r.m", "match": {"prefix": "/a"}, ` + leads + `},
				{"name": "r", "match": {"safe_regex": {"regex": "/b.*"}}, ` + leads + `}]`,
		},
		"parts of the request": {
			route: `{match: [{scheme: {exact: http}, method: {exact: GET}, authority: {prefix: web}}], ` + to + `}`,
			want: `[{"match": {"prefix": "/", "headers": [{"name": ":scheme", "string_match": {"exact": "http"}},
				{"name": ":method", "string_match": {"exact": "GET"}}, {"name": ":authority", "string_match": {"prefix": "web"}}]}, ` + leads + `}]`,
		},
		"header fields": {
			route: `{match: [{headers: {b: {}, a: {regex: "x+"}}, withoutHeaders: {c: {exact: d}}}], ` + to + `}`,
			want: `[{"match": {"prefix": "/", "headers": [{"name": "a", "string_match": {"safe_regex": {"regex": "x+"}}}, {"name": "b", "present_match": true},
				{"name": "c", "string_match": {"exact": "d"}, "invert_match": true, "treat_missing_header_as_empty": true}]}, ` + leads + `}]`,
		},
		"query": {
			route: `{match: [{queryParams: {a: {exact: b}, c: {}}}], ` + to + `}`,
			want:  `[{"match": {"prefix": "/", "query_parameters": [{"name": "a", "string_match": {"exact": "b"}}, {"name": "c", "present_match": true}]}, ` + leads + `}]`,
		},
		"of these clients, on this port": {
			route: `{match: [{sourceNamespace: client, port: 80}, {sourceNamespace: other}, {port: 81}], ` + to + `}`,
			want:  `[{` + any + `, ` + leads + `}]`,
		},
		"split": {
			route: `{route: [{destination: {host: ` + webHost + `, subset: v1}, weight: 90, headers: {request: {set: {v: one}}}},
				{destination: {host: other, port: {number: 81}}, weight: 10}, {destination: {host: ` + webHost + `, subset: v2}}]}`,
			want: `[{` + any + `, "route": {"weighted_clusters": {"clusters": [{"name": "outbound|80|v1|` + webHost + `", "weight": 90,
				"request_headers_to_add": [{"header": {"key": "v", "value": "one"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]},
				{"name": "outbound|81||other.client.svc.cluster.local", "weight": 10}]}, ` + usual + `}}]`,
		},
		"edits": {
			route: `{headers: {request: {set: {b: "2", a: "1", Host: h.example}, add: {c: "3"}, remove: [d]}}, route: [{destination: {host: ` + webHost + `}, headers: {response: {remove: [e]}}}]}`,
			want: `[{` + any + `, "route": {"cluster": "outbound|80||` + webHost + `", "host_rewrite_literal": "h.example", ` + usual + `},
				"request_headers_to_add": [{"header": {"key": "a", "value": "1"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"},
				{"header": {"key": "b", "value": "2"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}, {"header": {"key": "c", "value": "3"}}],
				"request_headers_to_remove": ["d"], "response_headers_to_remove": ["e"]}]`,
		},
		"rewrite": {
			route: `{match: [{uri: {prefix: /a}}], rewrite: {uri: /b, authority: h.example}, ` + to + `}`,
			want: `[{"match": {"prefix": "/a"}, "route": {"cluster": "outbound|80||` + webHost + `", "prefix_rewrite": "/b",
				"host_rewrite_literal": "h.example", ` + usual + `}}]`,
		},
		"rewrite by an expression": {
			route: `{rewrite: {uriRegexRewrite: {match: "^/(.*)$", rewrite: "/x/\\1"}}, ` + to + `}`,
			want: `[{` + any + `, "route": {"cluster": "outbound|80||` + webHost + `",
				"regex_rewrite": {"pattern": {"regex": "^/(.*)$"}, "substitution": "/x/\\1"}, ` + usual + `}}]`,
		},
		"redirect": {
			route: `{redirect: {uri: /b, authority: h.example, scheme: https, port: 8443, redirectCode: 307}}`,
			want: `[{` + any + `, "redirect": {"host_redirect": "h.example", "path_redirect": "/b", "scheme_redirect": "https", "port_redirect": 8443,
				"response_code": "TEMPORARY_REDIRECT"}}]`,
		},
		"redirect of a prefix": {
			route: `{match: [{uri: {prefix: /a}}], redirect: {uri: "%PREFIX()%/b", derivePort: FROM_REQUEST_PORT}}`,
			want:  `[{"match": {"prefix": "/a"}, "redirect": {"prefix_rewrite": "/b", "port_redirect": 80}}]`,
		},
		"direct response": {
			route: `{directResponse: {status: 503, body: {string: hi}}}`,
			want:  `[{` + any + `, "direct_response": {"status": 503, "body": {"inline_bytes": "aGk="}}}]`,
		},
		"time and retries": {
			route: `{timeout: 3s, retries: {attempts: 4, perTryTimeout: 1s, retryOn: "reset,503"}, ` + to + `}`,
			want: `[{` + any + `, "route": {"cluster": "outbound|80||` + webHost + `", "timeout": "3s", "retry_policy": {"retry_on": "reset,retriable-status-codes",
				"num_retries": 4, "per_try_timeout": "1s", "retriable_status_codes": [503]}}}]`,
		},
		"fault": {
			route: `{fault: {delay: {fixedDelay: 5s, percentage: {value: 0.1}}, abort: {grpcStatus: UNAVAILABLE, percentage: {value: 100}}}, ` + to + `}`,
			want: `[{` + any + `, ` + leads + `, "typed_per_filter_config": {"envoy.filters.http.fault": {
				"@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
				"delay": {"fixed_delay": "5s", "percentage": {"numerator": 1000, "denominator": "MILLION"}},
				"abort": {"grpc_status": 14, "percentage": {"numerator": 1000000, "denominator": "MILLION"}}}}}]`,
		},
		"cors": {
			route: `{corsPolicy: {allowOrigins: [{exact: "https://a"}, {regex: "https://.*"}], allowMethods: [GET, POST], allowHeaders: [x-a, x-b],
				exposeHeaders: [x-c], maxAge: 24h, allowCredentials: true, unmatchedPreflights: IGNORE}, ` + to + `}`,
			want: `[{` + any + `, ` + leads + `, "typed_per_filter_config": {"envoy.filters.http.cors": {
				"@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
				"allow_origin_string_match": [{"exact": "https://a"}, {"safe_regex": {"regex": "https://.*"}}],
				"allow_methods": "GET,POST", "allow_headers": "x-a,x-b", "expose_headers": "x-c", "max_age": "86400", "allow_credentials": true,
				"filter_enabled": {"default_value": {"numerator": 100}}, "forward_not_matching_preflights": false}}}]`,
		},
		"mirrors": {
			route: `{mirrors: [{destination: {host: other, subset: v1}, percentage: {value: 0.1}}, {destination: {host: ` + webHost + `, port: {number: 81}}},
				{destination: {host: ` + webHost + `}, percentage: {value: 0}}], ` + to + `}`,
			want: `[{` + any + `, "route": {"cluster": "outbound|80||` + webHost + `", ` + usual + `, "request_mirror_policies": [
				{"cluster": "outbound|80|v1|other.client.svc.cluster.local", "runtime_fraction": {"default_value": {"numerator": 1000, "denominator": "MILLION"}}},
				{"cluster": "outbound|81||` + webHost + `", "runtime_fraction": {"default_value": {"numerator": 1000000, "denominator": "MILLION"}}}]}}]`,
		},
		"mirror": {
			route: `{mirror: {host: ` + webHost + `}, mirrorPercent: 50, ` + to + `}`,
			want: `[{` + any + `, "route": {"cluster": "outbound|80||` + webHost + `", ` + usual + `, "request_mirror_policies": [
				{"cluster": "outbound|80||` + webHost + `", "runtime_fraction": {"default_value": {"numerator": 500000, "denominator": "MILLION"}}}]}}]`,
		},
		"fault for nobody": {
			route: `{fault: {abort: {httpStatus: 503, percentage: {value: 0}}}, ` + to + `}`,
			want:  `[{` + any + `, ` + leads + `}]`,
		},
		"no retries": {
			route: `{retries: {attempts: 0}, ` + to + `}`,
			want:  `[{` + any + `, "route": {"cluster": "outbound|80||` + webHost + `", "timeout": "0s", "retry_policy": {"num_retries": 0}}}]`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, virtualService("v", "{hosts: ["+webHost+"], http: ["+c.route+"]}"))
			got := s.virtualHost("80", webHost)
			want := &routev3.VirtualHost{}
			if err := protojson.Unmarshal([]byte(`{"routes": `+c.want+`}`), want); err != nil {
				t.Fatal(err)
			}
			want.Name, want.Domains = got.GetName(), got.GetDomains()
			if !proto.Equal(got, want) {
				t.Errorf("got  %s\nwant %s", protojson.Format(got), protojson.Format(want))
			}
		})
	}
}

// TestWhoseVirtualService: of those that name a host, that of the client's namespace
// counts, then that of the service's, then that of the root namespace; nobody else's,
// and of several in one, the oldest. The path that is answered tells which it was.
func TestWhoseVirtualService(t *testing.T) {
	in := func(namespace, name, created, hosts, export string) string {
		return fmt.Sprintf("---\nkind: VirtualService\nmetadata: {name: %s, namespace: %s, creationTimestamp: %q}\nspec: {hosts: [%s], %s http: [{match: [{uri: {exact: /%s}}], directResponse: {status: 200}}]}\n",
			name, namespace, created, hosts, export, name)
	}
	const early, late = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
	for name, c := range map[string]struct{ docs, want string }{
		"the client's": {
			docs: in("client", "mine", late, webHost, "") + in("shop", "theirs", early, "web", "") + in("istio-system", "root", early, webHost, ""),
			want: "/mine",
		},
		"the service's": {
			docs: in("shop", "theirs", late, "web", "") + in("istio-system", "root", early, webHost, ""),
			want: "/theirs",
		},
		"the service's, for itself alone": {
			docs: in("shop", "theirs", late, "web", `exportTo: ["."],`) + in("istio-system", "root", early, webHost, ""),
			want: "/root",
		},
		"a stranger's": {
			docs: in("stranger", "evil", early, webHost, ""),
			want: "/",
		},
		"the oldest": {
			docs: in("client", "a", late, webHost, "") + in("client", "b", early, webHost, ""),
			want: "/b",
		},
		"a whole name before a wildcard": {
			docs: in("client", "all", early, `"*.cluster.local"`, "") + in("client", "one", late, webHost, ""),
			want: "/one",
		},
		"the longest wildcard": {
			docs: in("client", "all", early, `"*.cluster.local"`, "") + in("client", "some", late, `"*.shop.svc.cluster.local"`, ""),
			want: "/some",
		},
		"about another port": {
			docs: virtualService("v", "{hosts: ["+webHost+"], http: [{match: [{port: 8080}], directResponse: {status: 200}}]}"),
			want: "/",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, c.docs)
			m := s.virtualHost("80", webHost).GetRoutes()[0].GetMatch()
			if got := m.GetPath() + m.GetPrefix(); got != c.want {
				t.Errorf("the first route is that of %s, want %s", got, c.want)
			}
		})
	}
}

// TestVirtualServiceBeyond: hosts that are none of the mesh are routed on port 80,
// for clients of the object's namespace.
func TestVirtualServiceBeyond(t *testing.T) {
	const route = `http: [{route: [{destination: {host: ` + webHost + `}}]}]`
	s := newScene(t, virtualService("v", `{hosts: [shop.example, "*.shop.example"], `+route+`}`))
	for _, name := range []string{"shop.example", "*.shop.example"} {
		if v := s.virtualHost("80", name); len(v.GetRoutes()) != 1 || v.Routes[0].GetRoute().GetCluster() != "outbound|80||"+webHost {
			t.Errorf("%s: %v", name, v)
		}
	}

	others := newScene(t, strings.Replace(virtualService("v", `{hosts: [shop.example], `+route+`}`), "namespace: client", "namespace: shop", 1))
	if v := others.virtualHost("80", "shop.example"); v != nil {
		t.Errorf("of another namespace: %v", v)
	}
}

// TestVirtualServiceOfAPortThatIsLookedInto: HTTP on a port that declares nothing is
// routed too.
func TestVirtualServiceOfAPortThatIsLookedInto(t *testing.T) {
	s := newScene(t, `
apiVersion: v1
kind: Service
metadata: {name: any, namespace: client}
spec: {clusterIP: 10.96.0.99, ports: [{port: 9000}]}
`+virtualService("v", `{hosts: [any], http: [{directResponse: {status: 418}}]}`))
	const name = "any.client.svc.cluster.local:9000"
	rc := message[*routev3.RouteConfiguration](s, s.client, xds.TypeRoute, name)
	if got := rc.GetVirtualHosts()[0].GetRoutes()[0].GetDirectResponse().GetStatus(); got != 418 {
		t.Errorf("answered with %d: %v", got, rc)
	}
}

// TestDestinationWithoutAPort: it is the host's only one, else that which is called.
func TestDestinationWithoutAPort(t *testing.T) {
	s := newScene(t, `
apiVersion: v1
kind: Service
metadata: {name: one, namespace: client}
spec: {clusterIP: 10.96.0.98, ports: [{name: http, port: 9000}]}
---
apiVersion: v1
kind: Service
metadata: {name: two, namespace: client}
spec: {clusterIP: 10.96.0.97, ports: [{name: http, port: 9000}, {name: http-two, port: 80}]}
`+virtualService("v", `{hosts: [`+webHost+`], http: [{match: [{uri: {exact: /one}}], route: [{destination: {host: one}}]}, {route: [{destination: {host: two}}]}]}`))
	var got []string
	for _, r := range s.virtualHost("80", webHost).GetRoutes() {
		got = append(got, r.GetRoute().GetCluster())
	}
	want := []string{"outbound|9000||one.client.svc.cluster.local", "outbound|80||two.client.svc.cluster.local"}
	if !slices.Equal(got, want) {
		t.Errorf("led to %v, want %v", got, want)
	}
}

// TestVirtualServiceChanges: an edit sends the routes of its ports again, and only
// those.
func TestVirtualServiceChanges(t *testing.T) {
	doc := func(status int) string {
		return virtualService("v", fmt.Sprintf(`{hosts: [%s], http: [{directResponse: {status: %d}}]}`, webHost, status))
	}
	s := newScene(t, doc(200))
	insert(s.mesh, s.store.Services, service("shop", "other", "10.96.0.11", port("http", 8000, model.HTTP, 8080)))
	before, untouched := s.resources(s.client, xds.TypeRoute, "80")["80"], s.resources(s.client, xds.TypeRoute, "8000")["8000"]
	clusters := s.resources(s.client, xds.TypeCluster)
	built := s.source.Built()

	s.addObject([]byte(strings.TrimPrefix(doc(201), "---\n")))
	after := s.resources(s.client, xds.TypeRoute, "80")["80"]
	if after == before || after.Version == before.Version {
		t.Error("the routes of the port are as before")
	}
	if s.resources(s.client, xds.TypeRoute, "8000")["8000"] != untouched {
		t.Error("the routes of another port were built again")
	}
	for name, res := range s.resources(s.client, xds.TypeCluster) {
		if clusters[name] != res {
			t.Errorf("the cluster %s was built again", name)
		}
	}
	if n := s.source.Built() - built; n != 1 {
		t.Errorf("%d resources were built, want 1", n)
	}
}
