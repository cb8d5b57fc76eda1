package dns

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/xds/nds"
)

// home is the namespace foo of an ordinary cluster.
var home = Home{Namespace: "foo", Domain: "cluster.local", Search: "foo.svc.cluster.local"}

func kubernetes(ips ...string) *nds.NameTable_NameInfo {
	return &nds.NameTable_NameInfo{Ips: ips, Registry: "Kubernetes"}
}

func external(ips ...string) *nds.NameTable_NameInfo {
	return &nds.NameTable_NameInfo{Ips: ips, Registry: "External"}
}

func newTable(t testing.TB, names map[string]*nds.NameTable_NameInfo) *Table {
	t.Helper()
	table, err := NewTable(&nds.NameTable{Table: names}, home)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestLookup(t *testing.T) {
	table := newTable(t, map[string]*nds.NameTable_NameInfo{
		"web.foo.svc.cluster.local":            kubernetes("10.0.0.1", "fd00::1"),
		"httpbin.bar.svc.cluster.local":        kubernetes("10.0.0.2"),
		"db.foo.svc.cluster.local":             kubernetes("10.1.0.1", "10.1.0.2"),
		"db-0.db.foo.svc.cluster.local":        kubernetes("10.1.0.1"),
		"httpbin.bar.global":                   external("240.0.0.2"),
		"Example.COM.":                         external("93.184.216.34"),
		"*.wild.example.com":                   external("240.0.0.3"),
		"*.deep.wild.example.com":              external("240.0.0.4"),
		"*.foo.svc.cluster.local":              external("240.0.0.5"),
		"ext.svc.cluster.local":                external("240.0.0.6"),
		"nothing.example.com":                  external(),
		"elsewhere.other.svc.cluster.local":    kubernetes("242.1.2.3"),
		"6.only.example.com":                   external("2001:db8::1"),
		"mapped.example.com":                   external("::ffff:10.9.9.9"),
		strings.Repeat("a.", 120) + "long.com": external("240.0.0.9"),
	})
	for name, want := range map[string]string{
		// Every form of a Service's name that its cluster's DNS would answer.
		"web":                           "10.0.0.1 fd00::1",
		"web.foo":                       "10.0.0.1 fd00::1",
		"web.foo.svc":                   "10.0.0.1 fd00::1",
		"web.foo.svc.cluster.local":     "10.0.0.1 fd00::1",
		"httpbin.bar":                   "10.0.0.2",
		"httpbin.bar.svc":               "10.0.0.2",
		"httpbin.bar.svc.cluster.local": "10.0.0.2",
		"elsewhere.other":               "242.1.2.3",
		"db":                            "10.1.0.1 10.1.0.2",
		"db-0.db":                       "10.1.0.1",
		"db-0.db.foo":                   "10.1.0.1",
		"db-0.db.foo.svc.cluster.local": "10.1.0.1",
		"httpbin":                       "", // of another namespace

		// ServiceEntries have no short forms, even where they look like it.
		"httpbin.bar.global": "240.0.0.2",
		"ext":                "",
		"ext.svc":            "",
		"example.com":        "93.184.216.34",
		"mapped.example.com": "10.9.9.9",
		"6.only.example.com": "2001:db8::1",

		// Without an address a name is its resolver's.
		"nothing.example.com": "",
		"unknown.example.com": "",
		"com":                 "",

		"a.wild.example.com":        "240.0.0.3",
		"a.b.wild.example.com":      "240.0.0.3",
		"a.deep.wild.example.com":   "240.0.0.4",
		"wild.example.com":          "",
		"xwild.example.com":         "",
		"unknown.svc.cluster.local": "",

		// The search path: the name that is meant comes before a wildcard.
		"httpbin.bar.global.foo.svc.cluster.local":  "240.0.0.2 = httpbin.bar.global",
		"httpbin.bar.foo.svc.cluster.local":         "10.0.0.2 = httpbin.bar",
		"a.wild.example.com.foo.svc.cluster.local":  "240.0.0.3 = a.wild.example.com",
		"unknown.foo.svc.cluster.local":             "240.0.0.5",
		"httpbin.bar.global.svc.cluster.local":      "",
		"foo.svc.cluster.local":                     "",
		"httpbin.bar.global.xfoo.svc.cluster.local": "",
		strings.Repeat("a.", 120) + "long.com":      "240.0.0.9",
	} {
		rec, target := table.lookup([]byte(name))
		got := ""
		if rec != nil {
			for _, ip := range append(rec.v4, rec.v6...) {
				got += " " + ip.String()
			}
			got = strings.TrimSpace(got)
		}
		if target != nil {
			got += " = " + string(target)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	table := newTable(t, map[string]*nds.NameTable_NameInfo{
		"web.foo.svc.cluster.local": kubernetes("10.0.0.1"), "*.example.com": external("240.0.0.1"),
	})
	for _, name := range []string{"web", "web.foo.svc.cluster.local", "x.y.example.com", "x.y.example.com.foo.svc.cluster.local", "unknown.org"} {
		key := []byte(name)
		if n := testing.AllocsPerRun(100, func() { table.lookup(key) }); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestTableRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		info *nds.NameTable_NameInfo
		why  string
	}{
		"a.example.com":                     {info: external("10.0.0"), why: `"10.0.0" is not an address`},
		"b.example.com":                     {info: external("fe80::1%eth0"), why: "is not an address"},
		"c..example.com":                    {info: external("10.0.0.1"), why: "empty label"},
		"":                                  {info: external("10.0.0.1"), why: "empty label"},
		"*":                                 {info: external("10.0.0.1"), why: "only the first label"},
		"a.*.example.com":                   {info: external("10.0.0.1"), why: "only the first label"},
		strings.Repeat("a", 64) + ".com":    {info: external("10.0.0.1"), why: "longer than 63"},
		strings.Repeat("a.", 130) + "x.com": {info: external("10.0.0.1"), why: "longer than 253"},
	} {
		_, err := NewTable(&nds.NameTable{Table: map[string]*nds.NameTable_NameInfo{name: tt.info}}, home)
		if err == nil || !strings.Contains(err.Error(), tt.why) || !strings.Contains(err.Error(), fmt.Sprintf("%q", name)) {
			t.Errorf("%q: %v, want an error with %q", name, err, tt.why)
		}
	}
}

func TestParseResolvConf(t *testing.T) {
	c, err := ParseResolvConf(strings.NewReader(`# kubelet
domain old.example.com
search foo.svc.cluster.local svc.cluster.local cluster.local ; and no more
nameserver dns.example.com
nameserver 10.96.0.10
nameserver ::ffff:10.96.0.10
nameserver	fd00::a
nameserver 127.0.0.1
nameserver 8.8.8.8
options ndots:5
nonsense
`))
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(c.Servers, c.Search); got != "[10.96.0.10 fd00::a 127.0.0.1] [foo.svc.cluster.local svc.cluster.local cluster.local]" {
		t.Error(got)
	}
	for own, want := range map[string]string{
		"127.0.0.1 10.1.0.7 ::1 fd00::7": "[10.96.0.10 fd00::a]",
		"127.0.0.1 10.1.0.7":             "[10.96.0.10]", // IPv6 is off
		"127.0.0.1 ::1 fd00::a":          "[10.96.0.10]", // the pod itself
		"::1":                            "[fd00::a]",
	} {
		var addrs []netip.Addr
		for _, a := range strings.Fields(own) {
			addrs = append(addrs, netip.MustParseAddr(a))
		}
		if got := fmt.Sprint(c.Others(addrs)); got != want {
			t.Errorf("outside a pod with %s: %s, want %s", own, got, want)
		}
	}
}
