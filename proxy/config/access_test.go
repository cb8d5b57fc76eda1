package config

import (
	"strings"
	"testing"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	httprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	tcprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/types/known/anypb"
)

// TestRefusesAccess: what is not known of permissions and principals is refused, and with
// it the listener: a rule that is half understood decides wrongly.
func TestRefusesAccess(t *testing.T) {
	const anyone = `principals {any: true}`
	for name, tt := range map[string]struct {
		policy string
		tcp    bool
		want   string
	}{
		"no permission":      {anyone, false, "permissions: is empty"},
		"no principal":       {`permissions {any: true}`, false, "principals: is empty"},
		"any, false":         {`permissions {any: false} ` + anyone, false, "permissions[0].any: is false"},
		"nothing asked":      {`permissions {} ` + anyone, false, "permissions[0]: asks for nothing"},
		"empty list":         {`permissions {or_rules {}} ` + anyone, false, "permissions[0].or_rules.rules: is empty"},
		"port":               {`permissions {destination_port: 70000} ` + anyone, false, "destination_port: 70000 is not a port"},
		"range of ports":     {`permissions {destination_port_range {start: 1 end: 2}} ` + anyone, false, "destination_port_range: is not supported"},
		"metadata":           {`permissions {not_rule {metadata {filter: "x"}}} ` + anyone, false, "not_rule[0].metadata: is not supported"},
		"source_ip":          {`permissions {any: true} principals {source_ip {address_prefix: "10.0.0.0"}}`, false, "source_ip: is not supported"},
		"filter state":       {`permissions {any: true} principals {and_ids {ids {filter_state {key: "x"}}}}`, false, "filter_state: is not supported"},
		"condition":          {`permissions {any: true} ` + anyone + ` condition {}`, false, "condition: is not supported"},
		"a request, for TCP": {`permissions {url_path {path {exact: "/"}}} ` + anyone, true, "asks about an HTTP request"},
		"a field, for TCP":   {`permissions {any: true} principals {not_id {header {name: "x" present_match: true}}}`, true, "asks about an HTTP request"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &rbacv3.Policy{}
			if err := prototext.Unmarshal([]byte(tt.policy), p); err != nil {
				t.Fatal(err)
			}
			rules := &rbacv3.RBAC{Policies: map[string]*rbacv3.Policy{"p": p}}
			var body *anypb.Any
			var err error
			decode := decodeHTTPAccess
			if tt.tcp {
				decode = decodeTCPAccess
				body, err = anypb.New(&tcprbacv3.RBAC{Rules: rules})
			} else {
				body, err = anypb.New(&httprbacv3.RBAC{Rules: rules})
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := decode(at{"listener", "l", ""}, body); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// TestPathTemplates: the operators of Envoy's uri_template.
func TestPathTemplates(t *testing.T) {
	for text, paths := range map[string]map[string]bool{
		"/a/*/b": {"/a/x/b": true, "/a//b": false, "/a/x/y/b": false, "/a/x/b/": false, "/a/x": false},
		"/a/**":  {"/a/": true, "/a/x": true, "/a/x/y": true, "/a": false, "/ab": false},
		"/**/b":  {"/x/b": true, "/x/y/b": true, "/b": false, "/x/bb": false, "/x/b/c": false},
		"/*/**":  {"/x/y": true, "/x/": true, "/x": false, "//y": false},
		"/a/b":   {"/a/b": true, "/a/b/": false, "/a": false},
		"/":      {"/": true, "/a": false, "": false},
		"/*":     {"/a": true, "/": false, "/a/b": false},
	} {
		tpl, err := ParsePathTemplate(text)
		if err != nil {
			t.Fatal(err)
		}
		for path, want := range paths {
			if tpl.Match(path) != want {
				t.Errorf("%s, %s: %t", text, path, !want)
			}
		}
	}
	for _, text := range []string{"a", "/a*", "/**/*", "/**/**", "/{*}"} {
		if _, err := ParsePathTemplate(text); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}

// TestMatchWithoutCase compares ASCII letters alone, as Envoy does.
func TestMatchWithoutCase(t *testing.T) {
	for _, tt := range []struct {
		kind    MatchKind
		value   string
		text    string
		matches bool
	}{
		{MatchExact, "Web.Shop", "wEB.sHOP", true},
		{MatchExact, "web", "webs", false},
		{MatchPrefix, "WEB:", "web:80", true},
		{MatchSuffix, ".Shop", "web.SHOP", true},
		{MatchContains, "B.S", "web.shop", true},
		{MatchExact, "k", "\u212a", false},
	} {
		m := StringMatch{Kind: tt.kind, Value: tt.value, IgnoreCase: true}
		if m.Match(tt.text) != tt.matches {
			t.Errorf("%v %q, %q: %t", tt.kind, tt.value, tt.text, !tt.matches)
		}
	}
}
