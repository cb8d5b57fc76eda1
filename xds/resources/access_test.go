package resources

import (
	"slices"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	httprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	"google.golang.org/protobuf/encoding/prototext"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// access gives the rbac filters of a view's inbound HTTP and TCP, in order.
func (s *scene) access(v serve.View) (http []*httprbacv3.RBAC, tcp []*tcprbacv3.RBAC) {
	s.t.Helper()
	l := message[*listenerv3.Listener](s, v, xds.TypeListener, "virtualInbound")
	for _, chain := range l.GetFilterChains() {
		for _, f := range chain.GetFilters() {
			hcm, rbac := &hcmv3.HttpConnectionManager{}, &tcprbacv3.RBAC{}
			switch {
			case chain.Name == "8080-plaintext" && f.GetTypedConfig().MessageIs(hcm):
				if err := f.GetTypedConfig().UnmarshalTo(hcm); err != nil {
					s.t.Fatal(err)
				}
				for _, hf := range hcm.HttpFilters {
					one := &httprbacv3.RBAC{}
					if hf.GetTypedConfig().MessageIs(one) {
						if err := hf.GetTypedConfig().UnmarshalTo(one); err != nil {
							s.t.Fatal(err)
						}
						http = append(http, one)
					}
				}
			case chain.Name == "any-plaintext" && f.GetTypedConfig().MessageIs(rbac):
				if err := f.GetTypedConfig().UnmarshalTo(rbac); err != nil {
					s.t.Fatal(err)
				}
				tcp = append(tcp, rbac)
			}
		}
	}
	return http, tcp
}

const policyHead = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"

// server is the view of a workload of service web.
func (s *scene) server() serve.View {
	return s.view(node("sidecar", "shop", "web-1", map[string]string{"app": "web"}))
}

// TestPoliciesInOrder: what refuses comes first; policies of the root namespace hold
// everywhere; a dry run decides nothing.
func TestPoliciesInOrder(t *testing.T) {
	s := newScene(t, policyHead+"metadata: {name: allow, namespace: shop}\nspec: {rules: [{from: [{source: {namespaces: [client]}}], to: [{operation: {methods: [GET]}}]}]}\n---\n"+
		policyHead+"metadata: {name: deny, namespace: istio-system}\nspec: {action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]}\n---\n"+
		policyHead+"metadata: {name: soon, namespace: shop, annotations: {istio.io/dry-run: \"true\"}}\nspec: {}\n---\n"+
		policyHead+"metadata: {name: other, namespace: shop}\nspec: {selector: {matchLabels: {app: other}}}\n---\n"+
		policyHead+"metadata: {name: elsewhere, namespace: client}\nspec: {}\n")
	http, tcp := s.access(s.server())
	if len(http) != 2 || len(tcp) != 2 {
		t.Fatalf("%d filters of HTTP and %d of TCP, want 2 and 2", len(http), len(tcp))
	}
	for i, want := range []string{"ns[istio-system]-policy[deny]-rule[0]", "ns[shop]-policy[allow]-rule[0]"} {
		if http[i].Rules.Policies[want] == nil || len(http[i].Rules.Policies) != 1 {
			t.Errorf("filter %d holds %v", i, prototext.Format(http[i]))
		}
	}
	if http[0].ShadowRules != nil || http[1].ShadowRules == nil || http[1].ShadowRulesStatPrefix != "istio_dry_run_allow_" {
		t.Errorf("the dry run stands elsewhere: %v", prototext.Format(http[1]))
	}
	if n := len(tcp[1].Rules.Policies); n != 0 || tcp[1].Rules == nil {
		t.Errorf("for TCP, a rule of methods allows: %v", prototext.Format(tcp[1]))
	}
	if rule := tcp[0].Rules.Policies["ns[istio-system]-policy[deny]-rule[0]"]; rule == nil || !rule.Permissions[0].GetAny() {
		t.Errorf("for TCP, a rule of paths does not refuse everything: %v", prototext.Format(tcp[0]))
	}
}

// TestIdentitiesOfAllTrustDomains: the mesh's names stand for one another, in whole
// identities and in parts of them.
func TestIdentitiesOfAllTrustDomains(t *testing.T) {
	mesh := model.DefaultMesh(testCluster)
	mesh.TrustDomain, mesh.TrustDomainAliases = "new", []string{"old"}
	for _, tt := range []struct {
		about model.AuthAttribute
		value model.AuthValue
		want  string
	}{
		{model.AuthPrincipal, model.AuthValue{Text: "old/ns/a/sa/b"}, `exact:"spiffe://new/ns/a/sa/b" exact:"spiffe://old/ns/a/sa/b"`},
		{model.AuthPrincipal, model.AuthValue{Text: "cluster.local/ns/a/sa/b"}, `exact:"spiffe://new/ns/a/sa/b" exact:"spiffe://old/ns/a/sa/b"`},
		{model.AuthPrincipal, model.AuthValue{Text: "other/ns/a/sa/b"}, `exact:"spiffe://other/ns/a/sa/b"`},
		{model.AuthPrincipal, model.AuthValue{Kind: model.AuthPrefix, Text: "new/ns/a/"}, `prefix:"spiffe://new/ns/a/" prefix:"spiffe://old/ns/a/"`},
		{model.AuthPrincipal, model.AuthValue{Kind: model.AuthSuffix, Text: "/sa/b"}, `suffix:"/sa/b"`},
		{model.AuthPrincipal, model.AuthValue{Kind: model.AuthPresent}, `prefix:"spiffe://"`},
		{model.AuthNamespace, model.AuthValue{Text: "a"}, `prefix:"spiffe://new/ns/a/sa/" prefix:"spiffe://old/ns/a/sa/"`},
		{model.AuthNamespace, model.AuthValue{Kind: model.AuthPrefix, Text: "a-"}, `prefix:"spiffe://new/ns/a-" prefix:"spiffe://old/ns/a-"`},
		{model.AuthServiceAccount, model.AuthValue{Text: "a/b"}, `exact:"spiffe://new/ns/a/sa/b" exact:"spiffe://old/ns/a/sa/b"`},
		{model.AuthTrustDomain, model.AuthValue{Text: "new"}, `prefix:"spiffe://new/"`},
	} {
		var got []string
		for _, m := range identityMatchers(mesh, tt.about, &tt.value) {
			got = append(got, strings.Join(strings.Fields(prototext.MarshalOptions{}.Format(m)), ""))
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%+v: %s, want %s", tt.value, s, tt.want)
		}
	}
}

// TestPolicyChangeRebuildsWhomItSelects: a policy that selects one workload changes that
// workload's listeners and nothing else, of nobody else.
func TestPolicyChangeRebuildsWhomItSelects(t *testing.T) {
	s := newScene(t, "")
	others := []serve.View{s.client, s.view(node("sidecar", "shop", "other-1", map[string]string{"app": "other"}))}
	before := s.server()
	for _, v := range append(slices.Clone(others), before) {
		for _, typeURL := range allTypes {
			s.resources(v, typeURL)
		}
	}

	for round, spec := range []string{"{selector: {matchLabels: {app: web}}}", "{selector: {matchLabels: {app: web}}, rules: [{}]}"} {
		s.addObject([]byte(policyHead + "metadata: {name: p, namespace: shop}\nspec: " + spec))
		built := s.source.Built()
		for i, v := range []serve.View{s.view(node("sidecar", "client", "c-1", map[string]string{"app": "c"})), s.view(node("sidecar", "shop", "other-1", map[string]string{"app": "other"}))} {
			if v != others[i] {
				t.Errorf("round %d: a workload that is not selected has another view", round)
			}
			for _, typeURL := range allTypes {
				s.resources(v, typeURL)
			}
		}
		if n := s.source.Built() - built; n != 0 {
			t.Errorf("round %d: %d resources of workloads that are not selected were built", round, n)
		}

		after := s.server()
		if after == before {
			t.Fatalf("round %d: the workload that is selected has the same view", round)
		}
		var changed []string
		for _, typeURL := range allTypes {
			was := s.resources(before, typeURL)
			for name, r := range s.resources(after, typeURL) {
				if was[name] == nil || was[name].Version != r.Version {
					changed = append(changed, name)
				}
			}
		}
		if len(changed) != 1 || changed[0] != "virtualInbound" {
			t.Errorf("round %d: %v changed", round, changed)
		}
		before = after
	}
}

// TestPoliciesAtTheGateway: a gateway judges requests wherever it reads them, with TLS
// and without; TLS that it passes on is judged by policies that choose it by its labels
// alone.
func TestPoliciesAtTheGateway(t *testing.T) {
	const https = "{port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: cert}, hosts: [a.example.com]}"
	const pass = "{port: {number: 443, name: tls, protocol: TLS}, tls: {mode: AUTO_PASSTHROUGH}, hosts: ['*.local']}"
	for _, tt := range []struct {
		name, spec string
		passed     bool // whether what is passed on is judged
	}{
		{name: "of the namespace", spec: "{}"},
		{name: "of the gateway", spec: "{selector: {matchLabels: {istio: ingressgateway}}}", passed: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t, gatewayDoc("istio-system", "edge", early, httpPort("'*'")+", "+https+", "+pass)+"---\n"+
				policyHead+"metadata: {name: nobody, namespace: istio-system}\nspec: "+tt.spec+"\n")

			read, passed := 0, 0
			for _, res := range s.resources(s.gateway, xds.TypeListener) {
				for _, chain := range decoded[*listenerv3.Listener](t, res).FilterChains {
					hcm := &hcmv3.HttpConnectionManager{}
					last := chain.Filters[len(chain.Filters)-1].GetTypedConfig()
					if !last.MessageIs(hcm) {
						passed++
						if judged := chain.Filters[0].GetTypedConfig().MessageIs(&tcprbacv3.RBAC{}); judged != tt.passed {
							t.Errorf("chain %s is judged: %t, want %t", chain.Name, judged, tt.passed)
						}
						continue
					}
					read++
					if err := last.UnmarshalTo(hcm); err != nil {
						t.Fatal(err)
					}
					if len(chain.Filters) != 1 || !hcm.HttpFilters[0].GetTypedConfig().MessageIs(&httprbacv3.RBAC{}) {
						t.Errorf("chain %s reads requests and judges none", chain.Name)
					}
				}
			}
			if read != 2 || passed != 1 {
				t.Errorf("%d chains read requests and %d pass TLS on, want 2 and 1", read, passed)
			}
		})
	}
}
