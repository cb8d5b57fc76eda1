package joincheck

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	meshv1 "istio.io/api/mesh/v1alpha1"
)

// sound are two clusters on two networks that work as one mesh.
func sound() []Facts {
	of := func(name, network, other, pods string) Facts {
		return Facts{
			Context: "ctx-" + name, Kubernetes: "v1.37.2", Istiod: "1", Name: name, Network: network, TrustDomain: "cluster.local",
			Roots: []string{"aaaa"}, Source: "Secret cacerts", Pods: []netip.Prefix{netip.MustParsePrefix(pods)},
			Gateways: []Gateway{{Service: "istio-system/istio-eastwestgateway", Network: network, Addresses: []string{"192.0.2.1:15443"}}},
			Secrets:  []Secret{{Name: "istio-remote-secret-" + other, Cluster: other, Inside: "synced"}},
		}
	}
	return []Facts{of("c1", "n1", "c2", "10.1.0.0/16"), of("c2", "n2", "c1", "10.1.0.0/16")}
}

// TestJudge: each thing that is wrong is told by its check, with what to do, and
// nothing else is.
func TestJudge(t *testing.T) {
	for name, c := range map[string]struct {
		change func(a, b *Facts)
		want   []string // CHECK STATE TEXT, the beginnings of what is not ok
	}{
		"sound":             {func(a, b *Facts) {}, nil},
		"unreachable":       {func(a, b *Facts) { *b = Facts{Context: "x", Unreachable: "gone"} }, []string{"API server problem gone"}},
		"one name":          {func(a, b *Facts) { b.Name, a.Secrets = "c1", nil }, []string{`cluster names problem both are called "c1"`, "remote secrets problem the control plane of ctx-c1"}},
		"other roots":       {func(a, b *Facts) { b.Roots = []string{"bbbb"} }, []string{"root certificates problem they have no root in common"}},
		"roots in exchange": {func(a, b *Facts) { b.Roots = []string{"aaaa", "bbbb"} }, []string{"root certificates warning they share some"}},
		"no root":           {func(a, b *Facts) { b.Roots = nil }, []string{"root certificates warning there is neither"}},
		"trust domains":     {func(a, b *Facts) { b.TrustDomain = "other" }, []string{`trust domains problem "cluster.local" and "other"`}},
		"one network": {func(a, b *Facts) { a.Network, b.Network = "n", "n" },
			[]string{"pod ranges problem pods of both have addresses of 10.1.0.0/16 and 10.1.0.0/16, and both are in network n"}},
		"no network": {func(a, b *Facts) { a.Network, b.Network = "", ""; b.Pods[0] = netip.MustParsePrefix("10.0.0.0/8") },
			[]string{"pod ranges problem pods of both have addresses of 10.1.0.0/16 and 10.0.0.0/8, and no network is named"}},
		"one network without overlap": {func(a, b *Facts) {
			a.Network, b.Network, a.Gateways = "n", "n", nil
			b.Pods[0] = netip.MustParsePrefix("10.2.0.0/16")
		}, nil},
		"no gateway": {func(a, b *Facts) { b.Gateways = nil }, []string{"gateways problem network n2 has no gateway"}},
		"a gateway in meshNetworks": {func(a, b *Facts) {
			b.Gateways = nil
			a.Networks = &meshv1.MeshNetworks{Networks: map[string]*meshv1.Network{"n2": {Gateways: []*meshv1.Network_IstioNetworkGateway{{Port: 443}}}}}
		}, nil},
		"a registry that nobody knows": {func(a, b *Facts) {
			a.Networks = &meshv1.MeshNetworks{Networks: map[string]*meshv1.Network{"n1": {Endpoints: []*meshv1.Network_NetworkEndpoints{
				{Ne: &meshv1.Network_NetworkEndpoints_FromRegistry{FromRegistry: "c1"}}, {Ne: &meshv1.Network_NetworkEndpoints_FromRegistry{FromRegistry: "c9"}}}}}}
		}, []string{"mesh networks warning network n1 has the endpoints of cluster c9"}},
		"no address yet":    {func(a, b *Facts) { b.Gateways[0].Addresses = nil }, []string{"gateways problem the gateways of network n2 have no address outside of the cluster yet: istio-system/istio-eastwestgateway"}},
		"a silent gateway":  {func(a, b *Facts) { b.Gateways[0].Silent = b.Gateways[0].Addresses }, []string{"gateways warning istio-system/istio-eastwestgateway of network n2 takes no connection at 192.0.2.1:15443 from here"}},
		"no secret":         {func(a, b *Facts) { a.Secrets = nil }, []string{"remote secrets problem the control plane of ctx-c1 does not read ctx-c2"}},
		"a steered cluster": {func(a, b *Facts) { b.Secrets, b.Steered = nil, true }, nil},
		"refused inside":    {func(a, b *Facts) { a.Secrets[0].Inside, a.Secrets[0].InsideTrouble = "refused: token", true }, []string{"remote secrets problem istiod says of cluster c2, from inside: refused: token"}},
		"tried in vain":     {func(a, b *Facts) { a.Secrets[0].Inside, a.Secrets[0].Trouble = "", "no answer" }, []string{"remote secrets warning Secret istio-remote-secret-c2, tried from here: no answer"}},
		"from inside only":  {func(a, b *Facts) { a.Secrets[0].Trouble = "no answer" }, nil},
		"slow clock":        {func(a, b *Facts) { b.Skew = -15 * time.Second }, []string{"clocks warning they differ by 15s"}},
		"wrong clock":       {func(a, b *Facts) { b.Skew = time.Hour }, []string{"clocks problem they differ by 1h0m0s"}},
		"versions":          {func(a, b *Facts) { b.Istiod = "2" }, []string{"versions warning the control planes are of versions 1 and 2"}},
		"unseen":            {func(a, b *Facts) { b.Unseen = []string{"nodes: forbidden"} }, []string{"access warning nodes: forbidden"}},
	} {
		t.Run(name, func(t *testing.T) {
			facts := sound()
			c.change(&facts[0], &facts[1])
			var got []string
			checks := map[string]bool{}
			for _, n := range Judge(facts) {
				checks[n.Check] = true
				if n.State != OK {
					got = append(got, n.Check+" "+string(n.State)+" "+n.Text)
					if n.Mend == "" || len(n.Clusters) == 0 {
						t.Errorf("%+v does not say where, or what to do", n)
					}
				}
			}
			if !slices.EqualFunc(got, c.want, strings.HasPrefix) {
				t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
			if name == "sound" && len(checks) != 10 {
				t.Errorf("%d checks were told of: %v", len(checks), checks)
			}
		})
	}
}
