package resources

import (
	"fmt"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	jwtv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

const authenticationHead = "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\n"

const testKeys = `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`

// tokenFilters gives the names of the HTTP filters of a view's listeners, by the name of the
// chain, and the one that verifies tokens.
func (s *scene) tokenFilters(t *testing.T, v serve.View) (names map[string]string, tokens *jwtv3.JwtAuthentication) {
	s.t.Helper()
	names = map[string]string{}
	for _, res := range s.resources(v, xds.TypeListener) {
		l := decoded[*listenerv3.Listener](t, res)
		if l.TrafficDirection != 1 && v != s.gateway {
			continue
		}
		for _, chain := range l.FilterChains {
			hcm := &hcmv3.HttpConnectionManager{}
			last := chain.Filters[len(chain.Filters)-1].GetTypedConfig()
			if !last.MessageIs(hcm) {
				names[chain.Name] = fmt.Sprintf("%d network filters", len(chain.Filters))
				continue
			}
			if err := last.UnmarshalTo(hcm); err != nil {
				s.t.Fatal(err)
			}
			var list []string
			for _, f := range hcm.HttpFilters {
				list = append(list, strings.TrimPrefix(f.Name, "envoy.filters.http."))
				one := &jwtv3.JwtAuthentication{}
				if f.GetTypedConfig().MessageIs(one) {
					if err := f.GetTypedConfig().UnmarshalTo(one); err != nil {
						s.t.Fatal(err)
					}
					tokens = one
				}
			}
			names[chain.Name] = strings.Join(list, " ")
		}
	}
	return names, tokens
}

// TestTokensAreVerifiedBeforeTheyAreAskedAbout: at sidecars and at gateways; objects of the
// root namespace, of the workload's own and those that select it count together, in the
// order of their issuers.
func TestTokensAreVerifiedBeforeTheyAreAskedAbout(t *testing.T) {
	object := func(name, namespace, selector, issuer, more string) string {
		return authenticationHead + "metadata: {name: " + name + ", namespace: " + namespace + "}\nspec: {" + selector +
			"jwtRules: [{issuer: " + issuer + ", jwks: '" + testKeys + "'" + more + "}]}\n---\n"
	}
	const web, other = "selector: {matchLabels: {app: web}}, ", "selector: {matchLabels: {app: other}}, "
	s := newScene(t, gatewayDoc("istio-system", "edge", early, httpPort("'*'"))+"---\n"+
		object("root", "istio-system", "", "z", "")+
		object("own", "shop", "", "m", ", audiences: [x], forwardOriginalToken: true, fromHeaders: [{name: x-jwt, prefix: 'T '}], outputPayloadToHeader: x-claims, outputClaimToHeaders: [{header: x-sub, claim: sub}]")+
		object("web", "shop", web, "a", "")+object("other", "shop", other, "b", "")+object("elsewhere", "client", "", "c", "")+
		policyHead+"metadata: {name: p, namespace: istio-system}\nspec: {rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}\n")

	names, tokens := s.tokenFilters(t, s.server())
	if got := names["8080-plaintext"]; got != "jwt_authn rbac router" {
		t.Errorf("the filters are %q", got)
	}
	if got := names["any-plaintext"]; got != "2 network filters" {
		t.Errorf("of TCP there are %s, want rbac and tcp_proxy", got)
	}
	var issuers []string
	for i := range len(tokens.GetProviders()) {
		issuers = append(issuers, tokens.Providers[fmt.Sprintf("origins-%04d", i)].GetIssuer())
	}
	if fmt.Sprint(issuers) != "[a m z]" {
		t.Errorf("the issuers are %v", issuers)
	}
	if n := len(tokens.GetRules()[0].GetRequires().GetRequiresAny().GetRequirements()); n != 4 {
		t.Errorf("there are %d requirements, want one for each issuer and one for no token", n)
	}
	own := tokens.Providers["origins-0001"]
	if own.Audiences[0] != "x" || !own.Forward || own.FromHeaders[0].ValuePrefix != "T " || own.ForwardPayloadHeader != "x-claims" ||
		own.ClaimToHeaders[0].ClaimName != "sub" || own.PayloadInMetadata != "payload" || own.GetLocalJwks().GetInlineString() != testKeys {
		t.Errorf("the provider is %v", own)
	}

	names, tokens = s.tokenFilters(t, s.gateway)
	if got := names["http"]; got != "jwt_authn rbac cors fault router" || len(tokens.GetProviders()) != 1 {
		t.Errorf("at the gateway the filters are %q with %d issuers", got, len(tokens.GetProviders()))
	}
}

// TestNoKeysNoTokens: a rule without keys stays, and verifies nothing.
func TestNoKeysNoTokens(t *testing.T) {
	p := tokenProvider(&model.TokenRule{Issuer: "iss"})
	if got := p.GetLocalJwks().GetInlineString(); got != `{"keys":[]}` {
		t.Errorf("the keys are %q", got)
	}
}

// TestRequestPrincipals: each slash may be the one between issuer and subject.
func TestRequestPrincipals(t *testing.T) {
	for name, tt := range map[string]struct {
		value model.AuthValue
		want  int
	}{
		"any":      {model.AuthValue{Kind: model.AuthPresent}, 1},
		"exact":    {model.AuthValue{Text: "https://iss/sub"}, 3},
		"prefix":   {model.AuthValue{Kind: model.AuthPrefix, Text: "https://iss/"}, 4},
		"suffix":   {model.AuthValue{Kind: model.AuthSuffix, Text: "/sub"}, 2},
		"no slash": {model.AuthValue{Text: "iss"}, 0},
	} {
		if got := requestPrincipals(&tt.value); len(got) != tt.want {
			t.Errorf("%s: %d alternatives, want %d: %v", name, len(got), tt.want, got)
		}
	}
	rule := &model.AuthRule{From: [][]model.AuthCheck{{{About: model.AuthRequestPrincipal, Values: []model.AuthValue{{Text: "iss"}}}}}}
	b := accessBuilder{mesh: model.DefaultMesh(""), deny: false}
	if b.rule(rule).Principals[0].GetNotId() == nil {
		t.Error("a principal that nobody can have is not left to match nobody")
	}
}
