package agent_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/proxy/agent"
	"github.com/isthmus-mesh/isthmus/proxy/dns"
	"github.com/isthmus-mesh/isthmus/test/leak"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/nds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// resolves asks the agent's name server for an address.
func resolves(t *testing.T, r *running, name string) string {
	t.Helper()
	c := miekg.Client{Timeout: 5 * time.Second}
	m, _, err := c.Exchange(new(miekg.Msg).SetQuestion(name, miekg.TypeA), r.addrs.DNS)
	check(t, err)
	if len(m.Answer) != 1 {
		return miekg.RcodeToString[m.Rcode]
	}
	return m.Answer[0].(*miekg.A).A.String()
}

// withDNS makes an agent that answers DNS in namespace shop.
func withDNS(c *agent.Config) {
	c.Kind, c.IP = agent.Sidecar, netip.MustParseAddr("10.0.0.1")
	c.DNS = &agent.DNS{Home: dns.Home{Namespace: "shop", Domain: "cluster.local", Search: "shop.svc.cluster.local"}}
}

// TestNames: names come from discovery, the pod is not ready before, and a table that
// is wrong leaves the former in force.
func TestNames(t *testing.T) {
	t.Cleanup(func() { leak.None(t) })
	d := newDiscovery(t, echoServer(t))
	table := func(ip string) *nds.NameTable {
		return &nds.NameTable{Table: map[string]*nds.NameTable_NameInfo{
			"db.shop.svc.cluster.local": {Ips: []string{ip}, Registry: "Kubernetes"},
		}}
	}
	d.view.add(t, xds.TypeNameTable, "names", table("10.96.0.7"))
	dir := t.TempDir()
	write(t, dir, "root-cert.pem", string(d.authority.RootPEM()))
	write(t, dir, "token", "good")
	r := startAgent(t, d, dir, withDNS)
	defer func() { r.end(t) }()

	if got := resolves(t, r, "db.shop.svc.cluster.local."); got != "SERVFAIL" {
		t.Errorf("before the first table, without a resolver: %s", got)
	}
	d.start()
	defer func() { d.stop() }()
	eventually(t, "ready", func() bool { return r.Ready() == nil })
	if got := resolves(t, r, "db."); got != "10.96.0.7" {
		t.Errorf("%s", got)
	}
	if code, page := get(t, "GET", "http://"+r.addrs.Admin+"/dns"); code != http.StatusOK || !strings.Contains(page, `"10.96.0.7"`) {
		t.Errorf("/dns: %d %s", code, page)
	}
	_, metrics := get(t, "GET", "http://"+r.addrs.Metrics+"/stats/prometheus")
	for _, line := range []string{`isthmus_proxy_dns_queries_total{by="mesh"} 1`, `isthmus_proxy_dns_failures_total{reason="resolver"} 1`, "isthmus_proxy_dns_names 1"} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("the metrics lack %s", line)
		}
	}

	d.stop()
	d.view.add(t, xds.TypeNameTable, "names", table("10.96.0.999"))
	d.view[xds.TypeNameTable]["names"].Version = "2"
	d.start()
	eventually(t, "the table is refused", func() bool {
		_, page := get(t, "GET", "http://"+r.addrs.Admin+"/server_info")
		return strings.Contains(page, `10.96.0.999\" is not an address`)
	})
	if got := resolves(t, r, "db."); got != "10.96.0.7" || r.Ready() != nil {
		t.Errorf("after a table that is wrong: %s, %v", got, r.Ready())
	}
}

// TestNamesOfAnOlderDiscovery: one that has no names is no reason to wait for them.
func TestNamesOfAnOlderDiscovery(t *testing.T) {
	t.Cleanup(func() { leak.None(t) })
	d := newDiscovery(t, echoServer(t))
	d.start()
	defer func() { d.stop() }()
	dir := t.TempDir()
	write(t, dir, "root-cert.pem", string(d.authority.RootPEM()))
	write(t, dir, "token", "good")
	r := startAgent(t, d, dir, withDNS)
	defer r.end(t)
	eventually(t, "ready", func() bool { return r.Ready() == nil })
}

// TestNotReadyWithoutNames: all but the names has come.
func TestNotReadyWithoutNames(t *testing.T) {
	t.Cleanup(func() { leak.None(t) })
	d := newDiscovery(t, echoServer(t))
	late := lateNames{d.view, make(chan struct{})}
	d.source = late
	d.start()
	defer func() { d.stop() }()
	dir := t.TempDir()
	write(t, dir, "root-cert.pem", string(d.authority.RootPEM()))
	write(t, dir, "token", "good")
	r := startAgent(t, d, dir, withDNS)
	defer r.end(t)
	eventually(t, "not ready for want of names", func() bool {
		err := r.Ready()
		return err != nil && strings.Contains(err.Error(), "no names yet")
	})
	close(late.come)
	eventually(t, "ready", func() bool { return r.Ready() == nil })
}

// lateNames is a view whose names are not there at first.
type lateNames struct {
	fixedView
	come chan struct{}
}

func (v lateNames) View(ctx context.Context, n serve.Node) (serve.View, <-chan struct{}, error) {
	return v, make(chan struct{}), nil
}

func (v lateNames) Resources(typeURL string, names []string) (serve.Set, <-chan struct{}, error) {
	if typeURL == xds.TypeNameTable {
		<-v.come
	}
	return v.fixedView.Resources(typeURL, names)
}

func TestDNSIsChecked(t *testing.T) {
	for name, edit := range map[string]func(*agent.Config){
		"a router":        func(c *agent.Config) { c.Kind = agent.Router },
		"loopback":        func(c *agent.Config) { c.DNS.Resolvers = []netip.Addr{netip.MustParseAddr("127.0.0.53")} },
		"the pod's own":   func(c *agent.Config) { c.DNS.Resolvers = []netip.Addr{c.IP} },
		"no address":      func(c *agent.Config) { c.DNS.Resolvers = []netip.Addr{{}} },
		"IPv6's loopback": func(c *agent.Config) { c.DNS.Resolvers = []netip.Addr{netip.IPv6Loopback()} },
	} {
		cfg := agent.Config{
			Pod: "web-1", Namespace: "shop", ServiceAccount: "web", Discovery: "127.0.0.1:1", RootFile: "none",
			Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
		}
		withDNS(&cfg)
		edit(&cfg)
		_, err := agent.New(cfg)
		if err == nil || !strings.Contains(err.Error(), "the resolver") && !strings.Contains(err.Error(), "answers no DNS") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
