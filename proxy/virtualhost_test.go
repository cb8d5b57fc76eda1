package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/proxy/mtls/mtlstest"
	"github.com/isthmus-mesh/isthmus/xds/fetch"
)

const (
	hostsApart  = `{"name":"8000","vhds":{"config_source":{"ads":{},"resource_api_version":"V3"}},"virtual_hosts":[{"name":"any","domains":["*"],"routes":[{"match":{"prefix":"/"},"direct_response":{"status":404}}]}]}`
	hostApart   = `{"name":"8000/$NAME","domains":[$DOMAINS],"routes":[{"match":{"prefix":"/"},"direct_response":{"status":$STATUS}}]}`
	hostInsides = `{"name":"8000","virtual_hosts":[{"name":"web","domains":["web.bar"],"routes":[{"match":{"prefix":"/"},"direct_response":{"status":299}}]}]}`
)

// apartHost is a virtual host that answers with a status.
func apartHost(t testing.TB, name string, status int, domains ...string) fetch.Resource {
	t.Helper()
	return res(t, typeVirtualHost, hostApart, "NAME", name, "DOMAINS", `"`+strings.Join(domains, `","`)+`"`, "STATUS", fmt.Sprint(status))
}

// apartNode is a proxy with a listener that wants the route configuration 8000.
func apartNode(t testing.TB) *node {
	t.Helper()
	n := start(t, mtlstest.NewCA(t, "root").Identity(clientID))
	n.goingTo(netip.MustParseAddrPort("10.1.2.3:8000"))
	n.apply(typeCluster, res(t, typeCluster, passthrough))
	n.apply(typeListener, res(t, typeListener, virtualOutbound, "CLUSTER", "PassthroughCluster"),
		res(t, typeListener, serviceHTTP, "CLUSTER", "PassthroughCluster"))
	return n
}

func (n *node) answersWith(host string, want int) {
	n.t.Helper()
	if code, body, err := n.get(host); err != nil || code != want {
		n.t.Errorf("%s: %d %q, %v; want %d", host, code, body, err, want)
	}
}

// TestListenerWaitsForVirtualHosts: a route configuration whose virtual hosts come by
// themselves serves nobody before they are there; to requests in between, all hosts
// would be unknown.
func TestListenerWaitsForVirtualHosts(t *testing.T) {
	for name, answer := range map[string]struct {
		add     []fetch.Resource
		removed []string
		want    int
	}{
		"with hosts": {add: []fetch.Resource{apartHost(t, "web", 200, "web.bar")}, want: 200},
		"with none":  {removed: []string{"8000"}, want: 404},
	} {
		t.Run(name, func(t *testing.T) {
			n := apartNode(t)
			n.apply(typeRoute, res(t, typeRoute, hostsApart))
			if got := fmt.Sprint(n.Wanted(typeRoute), n.Wanted(typeVirtualHost)); got != "[8000] [8000]" {
				t.Errorf("wanted %s", got)
			}
			if d := n.ConfigDump().(Dump); len(d.Waiting) != 1 {
				t.Errorf("%d listeners wait for the virtual hosts, want 1", len(d.Waiting))
			}

			if err := n.Apply(typeVirtualHost, answer.add, answer.removed); err != nil {
				t.Fatal(err)
			}
			if d := n.ConfigDump().(Dump); len(d.Waiting) != 0 {
				t.Errorf("%d listeners wait still", len(d.Waiting))
			}
			n.answersWith("web.bar", answer.want)
		})
	}
}

// TestVirtualHostsChange: each comes, changes and goes by itself, domains move between
// two in one update, and a change of the configuration leaves them.
func TestVirtualHostsChange(t *testing.T) {
	n := apartNode(t)
	n.apply(typeRoute, res(t, typeRoute, hostsApart))
	n.apply(typeVirtualHost, apartHost(t, "web", 200, "web.bar", "web"), apartHost(t, "api", 201, "api.bar"))
	n.answersWith("web.bar", 200)

	n.apply(typeVirtualHost, apartHost(t, "web", 202, "web.bar"), apartHost(t, "api", 203, "api.bar", "web"))
	n.answersWith("web.bar", 202)
	n.answersWith("web", 203)

	edited := strings.Replace(hostsApart, `"virtual_hosts"`, `"response_headers_to_add":[{"header":{"key":"x-edited","value":"yes"}}],"virtual_hosts"`, 1)
	n.apply(typeRoute, res(t, typeRoute, edited))
	n.answersWith("web", 203)

	if err := n.Apply(typeVirtualHost, []fetch.Resource{apartHost(t, "new", 204, "api.bar")}, []string{"8000/api"}); err != nil {
		t.Fatal(err)
	}
	n.answersWith("api.bar", 204)
	n.answersWith("web", 404)

	var names []string
	for _, v := range n.ConfigDump().(Dump).Routes[0].VirtualHosts {
		names = append(names, v.Name)
	}
	if !slices.Equal(names, []string{"any", "8000/new", "8000/web"}) {
		t.Errorf("the dump lists %v", names)
	}

	if err := n.Apply(typeListener, nil, []string{"0.0.0.0_8000"}); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(n.Wanted(typeRoute), n.Wanted(typeVirtualHost)); got != "[] []" {
		t.Errorf("wanted when nobody routes: %s", got)
	}
}

// TestRefusedVirtualHost: one that cannot be carried out is refused by its name, and
// costs nobody but itself; its former version stays.
func TestRefusedVirtualHost(t *testing.T) {
	n := apartNode(t)
	n.apply(typeRoute, res(t, typeRoute, hostsApart))
	n.apply(typeVirtualHost, apartHost(t, "web", 200, "web.bar", "web"), apartHost(t, "api", 200, "api.bar"))

	err := n.Apply(typeVirtualHost, []fetch.Resource{
		apartHost(t, "web", 99, "web.bar"),
		apartHost(t, "api", 201, "api.bar", "web"),
		apartHost(t, "twice", 200, "a", "a"),
		apartHost(t, "any", 200, "*"),
		apartHost(t, "good", 202, "good.bar"),
		{Name: "80/web", Body: apartHost(t, "web", 200, "x").Body},
		res(t, typeVirtualHost, `{"name":"9999/web","domains":["x"]}`),
		res(t, typeVirtualHost, `{"name":"web","domains":["x"]}`),
	}, nil)
	var refused *fetch.RejectError
	if !errors.As(err, &refused) {
		t.Fatal(err)
	}
	want := map[string]string{
		"8000/web":   `virtual host "8000/web": routes[0].direct_response.status: 99 is not a status`,
		"8000/api":   `virtual host "8000/api": domains[1]: "web" is a domain of virtual host "8000/web" too`,
		"8000/twice": `virtual host "8000/twice": domains[1]: "a" is there twice`,
		"8000/any":   `virtual host "8000/any": domains[0]: "*" is a domain of virtual host "any" too`,
		"80/web":     `the resource is named "80/web", its content "8000/web"`,
		"9999/web":   `no route configuration "9999"`,
		"web":        `"web" is not of the form ROUTECONFIG/HOST`,
	}
	for name, text := range want {
		if got := refused.Reasons[name]; got == nil || !strings.Contains(got.Error(), text) {
			t.Errorf("%s: %v, want %s", name, got, text)
		}
	}
	if len(refused.Reasons) != len(want) {
		t.Errorf("refused: %v", err)
	}

	n.answersWith("web.bar", 200)
	n.answersWith("web", 200)
	n.answersWith("api.bar", 200)
	n.answersWith("good.bar", 202)
	n.answersWith("other", 404)
}

// TestRoutesUntilVirtualHostsCome: whoever has routes goes on with them when its
// configuration comes without hosts, as when discovery learns to send them apart, and
// back.
func TestRoutesUntilVirtualHostsCome(t *testing.T) {
	n := apartNode(t)
	n.apply(typeRoute, res(t, typeRoute, hostInsides))
	n.answersWith("web.bar", 299)
	n.apply(typeRoute, res(t, typeRoute, hostsApart))
	n.answersWith("web.bar", 299)
	n.apply(typeVirtualHost, apartHost(t, "web", 200, "web.bar"))
	n.answersWith("web.bar", 200)

	n.apply(typeRoute, res(t, typeRoute, hostInsides))
	n.answersWith("web.bar", 299)
	if got := n.Wanted(typeVirtualHost); len(got) > 0 {
		t.Errorf("wanted: %v", got)
	}
	n.apply(typeRoute, res(t, typeRoute, hostsApart))
	n.answersWith("web.bar", 299)
	n.apply(typeVirtualHost, apartHost(t, "api", 200, "api.bar"))
	n.answersWith("web.bar", http.StatusNotFound)
}
