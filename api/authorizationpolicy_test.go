package api

import (
	"strings"
	"testing"
)

// TestTakesAuthorizationPolicies: one document for each field that is honoured.
func TestTakesAuthorizationPolicies(t *testing.T) {
	for name, spec := range map[string]string{
		"nobody":            `{}`,
		"everybody":         `{rules: [{}]}`,
		"selector":          `{selector: {matchLabels: {app: web}}, action: ALLOW}`,
		"deny":              `{action: DENY, rules: [{}]}`,
		"audit":             `{action: AUDIT, rules: [{}]}`,
		"identities":        `{rules: [{from: [{source: {principals: [cluster.local/ns/a/sa/b, "*", "td/*", "*/sa/b"], notPrincipals: [x/ns/a/sa/c], namespaces: [a, "b-*", "*-c"], notNamespaces: [d], trustDomains: [td], notTrustDomains: ["x*"]}}]}]}`,
		"accounts":          `{rules: [{from: [{source: {serviceAccounts: [a/b, c], notServiceAccounts: [d]}}]}]}`,
		"addresses":         `{rules: [{from: [{source: {ipBlocks: [10.0.0.1, 10.0.0.0/8, "::1", "fd00::/8"], notIpBlocks: [10.1.0.0/16], remoteIpBlocks: [192.0.2.0/24], notRemoteIpBlocks: [192.0.2.1]}}]}]}`,
		"tokens":            `{rules: [{from: [{source: {requestPrincipals: [iss/sub], notRequestPrincipals: ["*"]}}]}]}`,
		"operations":        `{rules: [{to: [{operation: {hosts: [a.b, "*.c", "d:*"], notHosts: [e], ports: ["80"], notPorts: ["81"], methods: [GET, "P*"], notMethods: [DELETE], paths: ["/a", "/b/*", "*.js"], notPaths: ["/c"]}}]}]}`,
		"templates":         `{rules: [{to: [{operation: {paths: ["/a/{*}/b", "/a/{**}", "/{**}/c", "/{*}/{**}", "/"], notPaths: ["/x/{*}"]}}]}]}`,
		"header field":      `{rules: [{when: [{key: "request.headers[X-Role]", values: [a, "b*", "*"], notValues: ["*c"]}]}]}`,
		"claims":            `{rules: [{when: [{key: "request.auth.claims[a][b]", values: [c]}, {key: request.auth.audiences, values: [d]}, {key: request.auth.presenter, notValues: [e]}, {key: request.auth.principal, values: ["*"]}]}]}`,
		"where":             `{rules: [{when: [{key: source.ip, values: [10.0.0.0/8]}, {key: remote.ip, notValues: [10.0.0.1]}, {key: destination.ip, values: ["::1"]}, {key: destination.port, values: ["80"]}, {key: connection.sni, values: ["*.a"]}]}]}`,
		"who":               `{rules: [{when: [{key: source.namespace, values: [a]}, {key: source.principal, values: ["*"]}, {key: source.serviceAccount, notValues: [a/b]}, {key: source.trustDomain, values: [td]}]}]}`,
		"several of a list": `{rules: [{from: [{source: {namespaces: [a]}}, {source: {ipBlocks: [10.0.0.1]}}], to: [{operation: {ports: ["1"]}}, {operation: {ports: ["2"]}}]}, {}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := decodeYAML(t, document("AuthorizationPolicy", spec)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRefusesAuthorizationPolicies: what is wrong or not honoured, with the path of the
// field.
func TestRefusesAuthorizationPolicies(t *testing.T) {
	source := func(s string) string { return `{rules: [{from: [{source: {` + s + `}}]}]}` }
	operation := func(s string) string { return `{rules: [{to: [{operation: {` + s + `}}]}]}` }
	when := func(s string) string { return `{rules: [{when: [{` + s + `}]}]}` }
	for name, tt := range map[string]struct{ spec, want string }{
		"custom":            {`{action: CUSTOM, provider: {name: x}, rules: [{}]}`, "spec.action: CUSTOM: external authorizers are not supported yet"},
		"provider":          {`{action: DENY, provider: {name: x}, rules: [{}]}`, "spec.provider: is not honoured yet; remove it"},
		"unknown action":    {`{action: MAYBE}`, "spec: "},
		"target":            {`{targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: g}]}`, "spec.targetRefs: is not honoured yet; remove it"},
		"one target":        {`{targetRef: {kind: Service, name: s}}`, "spec.targetRef: is not honoured yet; remove it"},
		"labels":            {`{selector: {matchLabels: {"a b": c}}}`, "spec.selector.matchLabels"},
		"empty source":      {source(``), "spec.rules[0].from[0].source: is empty"},
		"no source":         {`{rules: [{from: [{}]}]}`, "spec.rules[0].from[0].source: is empty"},
		"empty operation":   {operation(``), "spec.rules[0].to[0].operation: is empty"},
		"accounts beside":   {source(`serviceAccounts: [a], namespaces: [b]`), "source.serviceAccounts: cannot stand beside"},
		"spiffe":            {source(`principals: ["spiffe://cluster.local/ns/a/sa/b"]`), "source.principals[0]: \"spiffe://cluster.local/ns/a/sa/b\" would match nobody"},
		"star within":       {source(`principals: ["cluster.local/ns/*/sa/b"]`), "source.principals[0]: \"cluster.local/ns/*/sa/b\" has a star that stands for nothing"},
		"stars around":      {source(`namespaces: ["*a*"]`), "source.namespaces[0]: \"*a*\" has a star"},
		"namespace":         {source(`notNamespaces: [a/b]`), "source.notNamespaces[0]: \"a/b\" holds a slash"},
		"account":           {source(`serviceAccounts: ["a/*"]`), "source.serviceAccounts[0]: \"a/*\" is no service account"},
		"address":           {source(`ipBlocks: [10.0.0.0/33]`), "source.ipBlocks[0]: \"10.0.0.0/33\" is neither"},
		"empty value":       {source(`namespaces: [""]`), "source.namespaces[0]: is empty"},
		"port":              {operation(`ports: ["http"]`), "operation.ports[0]: \"http\" is no port"},
		"port with a star":  {operation(`ports: ["80*"]`), "operation.ports[0]: \"80*\" is no port"},
		"path with a star":  {operation(`paths: ["/a/*/b"]`), "operation.paths[0]: \"/a/*/b\" has a star"},
		"template, mixed":   {operation(`paths: ["/a{*}"]`), "operation.paths[0]: \"/a{*}\" has the segment"},
		"template, twice":   {operation(`paths: ["/{**}/{*}"]`), "has an operator behind {**}"},
		"template, star":    {operation(`paths: ["/{*}/*"]`), "operation.paths[0]: \"/{*}/*\" has the segment"},
		"template, no root": {operation(`paths: ["a/{*}"]`), "does not begin with a slash"},
		"line end":          {operation(`hosts: ["a\nb"]`), "operation.hosts[0]: \"a\\nb\" holds a line end"},
		"an empty claim":    {when(`key: "request.auth.claims[a][]", values: [b]`), "spec.rules[0].when[0].key: names a claim that is empty"},
		"unknown key":       {when(`key: source.pod, values: [a]`), "spec.rules[0].when[0].key: \"source.pod\" is no key; give one of"},
		"Envoy's":           {when(`key: "experimental.envoy.filters.network.mysql_proxy[a]", values: [b]`), "spec.rules[0].when[0].key: \"experimental.envoy.filters.network.mysql_proxy[a]\" asks for what an Envoy filter says"},
		"host by its field": {when(`key: "request.headers[Host]", values: [a]`), "use to[].operation.hosts"},
		"pseudo field":      {when(`key: "request.headers[:path]", values: [a]`), "use to[].operation.methods or paths"},
		"field name":        {when(`key: "request.headers[a b]", values: [a]`), "is no name of a header field"},
		"no values":         {when(`key: source.ip`), "spec.rules[0].when[0].values: is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decodeYAML(t, document("AuthorizationPolicy", tt.spec))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// TestWarnsOfAuthorizationPolicies: what has another effect than people may expect.
func TestWarnsOfAuthorizationPolicies(t *testing.T) {
	for spec, want := range map[string]string{
		`{action: AUDIT, rules: [{}]}`: "spec.action: AUDIT changes nothing",
		`{action: DENY}`:               "spec.rules: is empty: DENY without rules refuses nobody",
		`{rules: [{from: [{source: {notRemoteIpBlocks: [10.0.0.1]}}]}]}`:                                         "source.notRemoteIpBlocks: is about the last address in X-Forwarded-For",
		`{rules: [{when: [{key: remote.ip, values: [10.0.0.1]}]}]}`:                                              "spec.rules[0].when[0].values: is about the last address",
		`{rules: [{to: [{operation: {paths: ["a"]}}]}]}`:                                                         "operation.paths[0]: \"a\" matches no request",
		`{rules: [{from: [{source: {namespaces: [a], ipBlocks: ["::1"]}}], to: [{operation: {paths: ["*"]}}]}]}`: "",
	} {
		obj, err := decodeYAML(t, document("AuthorizationPolicy", spec))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(Warnings(obj), "; "); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: warned %q, want %q", spec, got, want)
		}
	}
}

// TestDryRun: an annotation that is neither true nor false is refused.
func TestDryRun(t *testing.T) {
	for value, want := range map[string]string{"true": "", "false": "", "yes": "metadata.annotations[istio.io/dry-run]: \"yes\" is neither true nor false"} {
		obj := &Object{Kind: KindAuthorizationPolicy, Annotations: map[string]string{AnnotationDryRun: value}, Spec: newSpec(KindAuthorizationPolicy)}
		err := Validate(obj)
		if got := ""; err != nil {
			got = err.Error()
			if got != want {
				t.Errorf("%s: %s", value, got)
			}
		} else if want != "" {
			t.Errorf("%s is taken", value)
		}
	}
}
