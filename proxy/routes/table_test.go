package routes

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

func direct(name string, m config.RouteMatch) *config.Route {
	return &config.Route{Name: name, Match: m, Direct: &config.DirectResponse{Status: 200}}
}

func TestFind(t *testing.T) {
	rc := &config.RouteConfig{VirtualHosts: []*config.VirtualHost{
		{Name: "exact", Domains: []string{"a.b", "a.b:80", "[::1]:80"}, Routes: []*config.Route{
			direct("get", config.RouteMatch{Prefix: "/", Headers: []config.HeaderMatch{{Name: ":method", Value: config.StringMatch{Kind: config.MatchExact, Value: "PUT"}}}}),
			direct("header", config.RouteMatch{Prefix: "/", Headers: []config.HeaderMatch{{Name: "x-user", Present: true}}}),
			direct("grpc", config.RouteMatch{Prefix: "/", GRPC: true}),
			direct("path", config.RouteMatch{Path: "/exact"}),
			direct("prefix", config.RouteMatch{Prefix: "/pre"}),
			direct("separated", config.RouteMatch{SeparatedPrefix: "/sep"}),
			direct("regex", config.RouteMatch{Regex: regexp.MustCompile("^/r[0-9]+$")}),
			direct("case", config.RouteMatch{Prefix: "/CASE", IgnoreCase: true}),
		}},
		{Name: "suffix", Domains: []string{"*.b", "*.long.b"}, Routes: []*config.Route{direct("suffix", config.RouteMatch{Prefix: "/"})}},
		{Name: "prefix", Domains: []string{"a.*"}, Routes: []*config.Route{direct("prefixed", config.RouteMatch{Prefix: "/"})}},
		{Name: "any", Domains: []string{"*"}, Routes: []*config.Route{direct("any", config.RouteMatch{Prefix: "/only"})}},
	}}
	set := upstream.NewSet(upstream.Options{})
	defer set.Close()
	table := Compile(rc, set)
	for _, tt := range []struct {
		method, host, path string
		grpc               bool
		header             string
		want               string
	}{
		{host: "a.b", path: "/exact", want: "path"},
		{host: "A.B", path: "/exact?x=1", want: "path"},
		{host: "a.b:80", path: "/prefixed", want: "prefix"},
		{host: "a.b:81", path: "/exact", want: "prefixed"},
		{host: "[::1]:80", path: "/sep", want: "separated"},
		{host: "a.b", path: "/sep/x", want: "separated"},
		{host: "a.b", path: "/separate", want: ""},
		{host: "a.b", path: "/r12?q", want: "regex"},
		{host: "a.b", path: "/case/x", want: "case"},
		{host: "a.b", path: "/x", grpc: true, want: "grpc"},
		{host: "a.b", path: "/x", header: "x-user", want: "header"},
		{method: "PUT", host: "a.b", path: "/x", want: "get"},
		{host: "x.b", path: "/", want: "suffix"},
		{host: ".b", path: "/", want: ""},
		{host: "a.c", path: "/", want: "prefixed"},
		{host: "z", path: "/only", want: "any"},
		{host: "z", path: "/", want: ""},
		{host: "", path: "/only/x", want: "any"},
	} {
		q := &Target{Method: tt.method, Authority: tt.host, Path: tt.path, GRPC: tt.grpc,
			Header: func(n string) (string, bool) { return "", n == tt.header }}
		got := ""
		if r := table.Find(q); r != nil {
			got = r.Name
		}
		if got != tt.want {
			t.Errorf("%+v: route %q, want %q", q, got, tt.want)
		}
	}
}

// TestUnknownHostGoesByDestination: where the configuration says so, an address
// decides for hosts that only "*" covers, and for no others.
func TestUnknownHostGoesByDestination(t *testing.T) {
	set := upstream.NewSet(upstream.Options{})
	defer set.Close()
	to := func(name string, domains ...string) *config.VirtualHost {
		return &config.VirtualHost{Name: name, Domains: domains, Routes: []*config.Route{{
			Name: name, Match: config.RouteMatch{Prefix: "/"}, Action: &config.RouteAction{Cluster: name},
		}}}
	}
	rc := &config.RouteConfig{IgnorePortInHost: true, ByDestination: true, VirtualHosts: []*config.VirtualHost{
		to("web", "web", "10.96.0.10"), to("api", "api", "*.api", "10.96.0.11", "[fd00::1]"), to("any", "*"),
	}}
	for _, tt := range []struct {
		host, destination string
		want              string
	}{
		{host: "shop.example.com", destination: "10.96.0.10", want: "web"},
		{host: "shop.example.com:8080", destination: "10.96.0.11", want: "api"},
		{host: "shop.example.com", destination: "fd00::1", want: "api"},
		{host: "", destination: "10.96.0.10", want: "web"},
		{host: "web", destination: "10.96.0.11", want: "web"},
		{host: "x.api", destination: "10.96.0.10", want: "api"},
		{host: "10.96.0.11", destination: "10.96.0.10", want: "api"},
		{host: "shop.example.com", destination: "192.0.2.1", want: "any"},
		{host: "shop.example.com", want: "any"},
	} {
		q := &Target{Authority: tt.host, Path: "/"}
		if tt.destination != "" {
			q.Destination = netip.MustParseAddr(tt.destination)
		}
		if got := Compile(rc, set).Find(q); got == nil || got.Name != tt.want {
			t.Errorf("Host %q to %s: %+v, want %s", tt.host, tt.destination, got, tt.want)
		}
	}
	rc.ByDestination = false
	q := &Target{Authority: "shop.example.com", Path: "/", Destination: netip.MustParseAddr("10.96.0.10")}
	if got := Compile(rc, set).Find(q); got.Name != "any" {
		t.Errorf("the destination decides unasked: %s", got.Name)
	}
}

func TestWeights(t *testing.T) {
	set := upstream.NewSet(upstream.Options{})
	defer set.Close()
	rc := &config.RouteConfig{VirtualHosts: []*config.VirtualHost{{Domains: []string{"*"}, Routes: []*config.Route{{
		Match:  config.RouteMatch{Prefix: "/"},
		Action: &config.RouteAction{Weighted: []config.RouteShare{{Cluster: "a", Weight: 90}, {Cluster: "b", Weight: 10}, {Cluster: "never", Weight: 0}}},
	}}}}}
	r := Compile(rc, set).Find(&Target{Path: "/"})
	count := map[string]int{}
	for range 10000 {
		count[r.Choose().Cluster().Name()]++
	}
	if count["never"] != 0 || count["b"] < 700 || count["b"] > 1300 {
		t.Errorf("shares of 10000: %v, want 9000 to 1000", count)
	}
}

func TestNormalizePath(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"/a/b?c=/../d", "/a/b?c=/../d"},
		{"/a/../b", "/b"},
		{"/../../b", "/b"},
		{"/a/./b/.", "/a/b/"},
		{"/a/b/..", "/a/"},
		{"/a/%2e%2E/b", "/b"},
		{`/a\..\b`, "/b"},
		{"/a//b", "/a/b"},
		{"/%41%2f%zz", "/A%2f%zz"},
		{"*", "*"},
	} {
		if got := NormalizePath(&config.HCM{NormalizePath: true, MergeSlashes: true}, tt.in); got != tt.want {
			t.Errorf("%s became %s, want %s", tt.in, got, tt.want)
		}
		if got := NormalizePath(&config.HCM{}, tt.in); got != tt.in {
			t.Errorf("%s became %s though nothing was asked for", tt.in, got)
		}
	}
}

func TestRewrite(t *testing.T) {
	for _, tt := range []struct {
		m        config.RouteMatch
		in, want string
	}{
		{config.RouteMatch{Prefix: "/a/"}, "/a/b?c", "/new/b?c"},
		{config.RouteMatch{Path: "/a"}, "/a?c", "/new/?c"},
		{config.RouteMatch{SeparatedPrefix: "/a"}, "/a/b", "/new//b"},
	} {
		r := &Route{Route: &config.Route{Match: tt.m, Action: &config.RouteAction{PrefixRewrite: "/new/"}}}
		if got := r.Rewrite(tt.in); got != tt.want {
			t.Errorf("%s became %s, want %s", tt.in, got, tt.want)
		}
	}
}

// TestFinalDotMatchesTheRoute asks for absolute domain names.
func TestFinalDotMatchesTheRoute(t *testing.T) {
	rc := &config.RouteConfig{IgnorePortInHost: true, VirtualHosts: []*config.VirtualHost{
		{Name: "exact", Domains: []string{"web.foo.svc.cluster.local"}},
		{Name: "suffix", Domains: []string{"*.example.com"}},
		{Name: "any", Domains: []string{"*"}},
	}}
	for _, ignore := range []bool{true, false} {
		rc.IgnorePortInHost = ignore
		table := Compile(rc, nil)
		for host, want := range map[string]string{
			"web.foo.svc.cluster.local.": "exact", "Web.foo.svc.cluster.local.": "exact", "a.example.com.": "suffix",
			".": "any", "": "any", "web.foo.svc.cluster.local..": "any",
		} {
			if got := table.host(host).config.Name; got != want {
				t.Errorf("%q (ignoring ports: %v) leads to %s, want %s", host, ignore, got, want)
			}
			if got := table.host(host + ":8000").config.Name; ignore && got != want {
				t.Errorf("%q leads to %s, want %s", host+":8000", got, want)
			}
		}
	}
	if got := withoutFinalDot("[::1]:80"); got != "[::1]:80" {
		t.Errorf("an address became %q", got)
	}
}

// TestRewriteWhole: RE2's substitutions in Envoy's syntax, and paths that matched as a whole.
func TestRewriteWhole(t *testing.T) {
	for name, tt := range map[string]struct {
		match    config.RouteMatch
		action   config.RouteAction
		in, want string
	}{
		"groups": {
			action: config.RouteAction{RegexRewrite: &config.RegexRewrite{
				Pattern: regexp.MustCompile("^/service/([^/]+)(/.*)$"), Substitution: "${2}/instance/${1}",
			}},
			match: config.RouteMatch{Prefix: "/"},
			in:    "/service/foo/v1/api?a=/service/", want: "/v1/api/instance/foo?a=/service/",
		},
		"every match": {
			action: config.RouteAction{RegexRewrite: &config.RegexRewrite{Pattern: regexp.MustCompile("one"), Substitution: "two"}},
			match:  config.RouteMatch{Prefix: "/"},
			in:     "/xxx/one/yyy/one/zzz", want: "/xxx/two/yyy/two/zzz",
		},
		"the slash stays": {
			action: config.RouteAction{RegexRewrite: &config.RegexRewrite{Pattern: regexp.MustCompile("^/a"), Substitution: ""}},
			match:  config.RouteMatch{Prefix: "/"},
			in:     "/ab", want: "/b",
		},
		"matched by an expression": {
			action: config.RouteAction{PrefixRewrite: "/new"},
			match:  config.RouteMatch{Regex: regexp.MustCompile("/a.*")},
			in:     "/abc?d", want: "/new?d",
		},
		"prefix in another case": {
			action: config.RouteAction{PrefixRewrite: "/new/"},
			match:  config.RouteMatch{Prefix: "/a/", IgnoreCase: true},
			in:     "/A/b", want: "/new/b",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Route{Route: &config.Route{Match: tt.match, Action: &tt.action}}
			if got := r.Rewrite(tt.in); got != tt.want {
				t.Errorf("%s became %s, want %s", tt.in, got, tt.want)
			}
		})
	}
}

func TestRedirectTo(t *testing.T) {
	for name, tt := range map[string]struct {
		match    config.RouteMatch
		redirect config.Redirect
		want     string
	}{
		"scheme": {
			redirect: config.Redirect{Scheme: "https"},
			want:     "https://web.shop/a/b?c",
		},
		"scheme and port": {
			redirect: config.Redirect{Scheme: "https", Port: 8443},
			want:     "https://web.shop:8443/a/b?c",
		},
		"host": {
			redirect: config.Redirect{Host: "other.shop"},
			want:     "http://other.shop/a/b?c",
		},
		"path": {
			redirect: config.Redirect{Path: "/x"},
			want:     "http://web.shop:80/x?c",
		},
		"prefix": {
			match:    config.RouteMatch{Prefix: "/a"},
			redirect: config.Redirect{Prefix: "/x"},
			want:     "http://web.shop:80/x/b?c",
		},
		"prefix of a path that matched as a whole": {
			match:    config.RouteMatch{Path: "/a/b"},
			redirect: config.Redirect{Prefix: "/x", Strip: true},
			want:     "http://web.shop:80/x",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Route{Route: &config.Route{Match: tt.match, Redirect: &tt.redirect}}
			if got := r.RedirectTo(&Target{Authority: "web.shop:80", Path: "/a/b?c"}, "http"); got != tt.want {
				t.Errorf("leads to %s, want %s", got, tt.want)
			}
		})
	}
}

// TestConditions: those on parts of a request that are no header field, and on fields
// that come more than once.
func TestConditions(t *testing.T) {
	q := &Target{
		Method: "GET", Authority: "web.shop", Scheme: "https", Path: "/a?x=1&y&z=%61&x=2",
		Header: func(name string) (string, bool) { return "one,two", name == "twice" },
	}
	exact := func(v string) config.StringMatch { return config.StringMatch{Kind: config.MatchExact, Value: v} }
	for name, tt := range map[string]struct {
		match config.RouteMatch
		want  bool
	}{
		"scheme":                       {config.RouteMatch{Headers: []config.HeaderMatch{{Name: ":scheme", Value: exact("https")}}}, true},
		"another scheme":               {config.RouteMatch{Headers: []config.HeaderMatch{{Name: ":scheme", Value: exact("http")}}}, false},
		"all of a field":               {config.RouteMatch{Headers: []config.HeaderMatch{{Name: "twice", Value: exact("one,two")}}}, true},
		"one of a field":               {config.RouteMatch{Headers: []config.HeaderMatch{{Name: "twice", Value: exact("one")}}}, false},
		"without a value":              {config.RouteMatch{Headers: []config.HeaderMatch{{Name: "no", Value: exact("v"), Invert: true, MissingIsEmpty: true}}}, true},
		"parameter":                    {config.RouteMatch{Query: []config.QueryMatch{{Name: "x", Value: exact("1")}}}, true},
		"the second of a parameter":    {config.RouteMatch{Query: []config.QueryMatch{{Name: "x", Value: exact("2")}}}, false},
		"parameter without a value":    {config.RouteMatch{Query: []config.QueryMatch{{Name: "y", Value: exact("")}}}, true},
		"parameter that is there":      {config.RouteMatch{Query: []config.QueryMatch{{Name: "y", Present: true}}}, true},
		"parameter that is not there":  {config.RouteMatch{Query: []config.QueryMatch{{Name: "w", Present: true}}}, false},
		"parameters are not decoded":   {config.RouteMatch{Query: []config.QueryMatch{{Name: "z", Value: exact("a")}}}, false},
		"the query is not in the path": {config.RouteMatch{Path: "/a", Query: []config.QueryMatch{{Name: "y", Present: true}}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			path, query, _ := strings.Cut(q.Path, "?")
			if got := matches(&tt.match, q, path, query); got != tt.want {
				t.Errorf("satisfied: %v, want %v", got, tt.want)
			}
		})
	}
}

// TestEdits: the share's come first, and the widest level has the last word, as in
// Envoy.
func TestEdits(t *testing.T) {
	set := upstream.NewSet(upstream.Options{})
	defer set.Close()
	level := func(name string) config.HeaderEdits {
		return config.HeaderEdits{RequestRemove: []string{"Gone-" + name}, RequestAdd: []config.HeaderEdit{{Name: "By", Value: name}}}
	}
	rc := &config.RouteConfig{Headers: level("config"), VirtualHosts: []*config.VirtualHost{{
		Domains: []string{"*"}, Headers: level("host"),
		Routes: []*config.Route{{
			Match: config.RouteMatch{Prefix: "/"}, Headers: level("route"),
			Action: &config.RouteAction{Weighted: []config.RouteShare{
				{Cluster: "a", Weight: 1, Headers: level("share")}, {Cluster: "b", Weight: 0},
			}},
		}},
	}}}
	r := Compile(rc, set).Find(&Target{Path: "/"}).Choose()
	var got []string
	for _, e := range r.Request {
		got = append(got, e.Name+"="+e.Value)
	}
	const want = "gone-share= by=share gone-route= by=route gone-host= by=host gone-config= by=config"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("edits %s, want %s", s, want)
	}
}

func TestHasUpper(t *testing.T) {
	for n := 1; n < 20; n++ {
		for at := range n {
			for c := range 256 {
				s := []byte(strings.Repeat("z", n))
				s[at] = byte(c)
				if got, want := hasUpper(string(s)), 'A' <= c && c <= 'Z'; got != want {
					t.Fatalf("hasUpper(%q) = %v, want %v", s, got, want)
				}
			}
		}
	}
}
