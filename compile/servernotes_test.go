package compile

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/model"
)

func TestServerNotes(t *testing.T) {
	gateway := func(namespace string, age int, servers ...model.GatewayServer) *model.Gateway {
		return &model.Gateway{Cluster: "c", Namespace: namespace, Name: "front", Servers: servers, Created: time.Date(2026, 1, 1, 0, 0, -age, 0, time.UTC)}
	}
	https := func(credential string, client model.ClientCert, hosts ...string) model.GatewayServer {
		return model.GatewayServer{Port: 443, Mode: model.ServeHTTPS, TLS: model.ServerTLS{Credential: credential, Client: client}, Hosts: hosts}
	}
	secrets := map[string]*model.Credential{
		"good":         {Certificate: []byte("c"), PrivateKey: []byte("k")},
		"broken":       {Problem: "its certificate and key are of no use: they do not match"},
		"beside":       {Certificate: []byte("c"), PrivateKey: []byte("k"), Roots: []byte("r")},
		"apart":        {Certificate: []byte("c"), PrivateKey: []byte("k")},
		"apart-cacert": {Roots: []byte("r")},
	}
	for name, c := range map[string]struct {
		all  []*model.Gateway
		want string
	}{
		"in force": {
			all: []*model.Gateway{gateway("shop", 1, https("good", model.ClientCertNone, "a"), https("beside", model.ClientCertRequired, "b"), https("apart", model.ClientCertOptional, "c"))},
		},
		"plaintext": {
			all: []*model.Gateway{gateway("shop", 1, model.GatewayServer{Port: 80, Mode: model.ServeHTTP, Hosts: []string{"a"}})},
		},
		"missing": {
			all:  []*model.Gateway{gateway("shop", 1, https("none", model.ClientCertNone, "a"))},
			want: `shop: spec.servers[0].tls.credentialName: there is no Secret "none"`,
		},
		"broken": {
			all:  []*model.Gateway{gateway("shop", 1, https("broken", model.ClientCertNone, "a"))},
			want: `shop: spec.servers[0].tls.credentialName: Secret "broken": its certificate and key are of no use`,
		},
		"roots alone": {
			all:  []*model.Gateway{gateway("shop", 1, https("apart-cacert", model.ClientCertNone, "a"))},
			want: `shop: spec.servers[0].tls.credentialName: Secret "apart-cacert" has no tls.crt and tls.key`,
		},
		"no roots": {
			all:  []*model.Gateway{gateway("shop", 1, https("good", model.ClientCertRequired, "a"))},
			want: `shop: spec.servers[0].tls.credentialName: neither Secret "good" nor "good-cacert" has ca.crt`,
		},
		"the mesh's own TLS": {
			all: []*model.Gateway{gateway("shop", 1, model.GatewayServer{Port: 443, Mode: model.ServeTLS, TLS: model.ServerTLS{Mesh: true}, Hosts: []string{"a"}})},
		},
		"TLS passed on beside another of the namespace": {
			all: []*model.Gateway{gateway("shop", 1, model.GatewayServer{Port: 443, Mode: model.PassTLS, Hosts: []string{"a"}}, model.GatewayServer{Port: 443, Mode: model.PassTLS, Hosts: []string{"a"}})},
		},
		"TLS passed on for another's host": {
			all:  []*model.Gateway{gateway("tenant", 1, model.GatewayServer{Port: 443, Mode: model.PassTLS, Hosts: []string{"a"}}), gateway("shop", 2, model.GatewayServer{Port: 443, Mode: model.PassTLS, Hosts: []string{"a"}})},
			want: `tenant: spec.servers[0].hosts[0]: "a" on port 443 is served over TLS by an older Gateway`,
		},
		"TCP beside others": {
			all:  []*model.Gateway{gateway("tenant", 1, model.GatewayServer{Port: 443, Mode: model.ServeTCP, Hosts: []string{"*"}}), gateway("shop", 2, https("good", model.ClientCertNone, "a"))},
			want: `tenant: spec.servers[0].port.number: 443 has a server of an older Gateway`,
		},
		"others beside TCP": {
			all:  []*model.Gateway{gateway("tenant", 1, https("good", model.ClientCertNone, "a")), gateway("shop", 2, model.GatewayServer{Port: 443, Mode: model.ServeTCP, Hosts: []string{"*"}})},
			want: `tenant: spec.servers[0].port.number: 443 has a server of an older Gateway`,
		},
		"an older one's host": {
			all:  []*model.Gateway{gateway("tenant", 1, https("good", model.ClientCertNone, "b", "tenant/a")), gateway("shop", 2, https("good", model.ClientCertNone, "a"))},
			want: `tenant: spec.servers[0].hosts[1]: "a" on port 443 is served over TLS by an older Gateway`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			notes := ServerNotes(c.all, func(name string) *model.Credential { return secrets[name] })
			for _, g := range c.all {
				for _, note := range notes[g.Key()] {
					got = append(got, g.Namespace+": "+note)
				}
			}
			slices.Sort(got)
			if text := strings.Join(got, "\n"); (c.want == "") != (text == "") || !strings.Contains(text, c.want) {
				t.Errorf("notes\n%s\nwant one with\n%s", text, c.want)
			}
		})
	}
}
