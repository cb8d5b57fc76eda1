package kube

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/model"
)

// apply makes a ServiceEntry of a namespace.
func (c *cluster) apply(namespace, name, spec string) {
	c.t.Helper()
	u := entry(name, nil)
	u.SetNamespace(namespace)
	u.SetCreationTimestamp(metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)))
	var body map[string]any
	if err := yaml.Unmarshal([]byte(spec), &body); err != nil {
		c.t.Fatal(err)
	}
	u.Object["spec"] = body
	if _, err := c.dyn.Resource(entriesResource).Namespace(namespace).Create(context.Background(), u, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// entryStatus reads the condition and the addresses of a ServiceEntry.
func (c *cluster) entryStatus(namespace, name string) (condition, map[string]netip.Addr) {
	c.t.Helper()
	u, err := c.dyn.Resource(entriesResource).Namespace(namespace).Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return readCondition(u), readAddresses(u)
}

// hosts lists the hosts of ServiceEntries that are in force.
func (c *cluster) hosts(txn model.ReadTxn) string {
	var out []string
	for s := range c.store.Services.All(txn) {
		if s.Origin == model.FromServiceEntry {
			out = append(out, s.Host)
		}
	}
	return strings.Join(out, " ")
}

const tcpPort = "ports: [{number: 80, name: tcp, protocol: TCP}], resolution: STATIC, endpoints: [{address: 203.0.113.66}]"

// TestEntryYieldsToService: an entry that takes a Service's address is not in
// force while the Service has it, and its status says why.
func TestEntryYieldsToService(t *testing.T) {
	c := newCluster(t, shop()...)
	c.apply("tenant", "evil", `{hosts: [evil.attacker.example], addresses: [10.0.0.1], `+tcpPort+`}`)
	c.apply("tenant", "port", `{hosts: [all.attacker.example], addresses: [0.0.0.0/0], `+tcpPort+`}`)
	c.apply("tenant", "other", `{hosts: [fine.example], addresses: [240.0.0.7], `+tcpPort+`}`)
	c.eventually("the one that takes nothing", func(txn model.ReadTxn) bool { return c.hosts(txn) == "fine.example" })
	c.eventually("the refusals", func(model.ReadTxn) bool {
		one, _ := c.entryStatus("tenant", "evil")
		two, _ := c.entryStatus("tenant", "port")
		return strings.Contains(one.message, `"10.0.0.1" is the address of Service shop/web`) && one.status == "False" &&
			strings.Contains(two.message, "takes every address") && two.status == "False"
	})
	if got := c.reader.NotInForce(); got[schema.GroupKind{Group: api.GroupNetworking, Kind: "ServiceEntry"}] != 2 {
		t.Errorf("counted %v", got)
	}
	if err := c.kube.CoreV1().Services("shop").Delete(context.Background(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the entry, once the address is free", func(txn model.ReadTxn) bool {
		one, _ := c.entryStatus("tenant", "evil")
		return c.hosts(txn) == "evil.attacker.example fine.example" && one.status == "True" && one.message == ""
	})
}

// TestEntryKeepsOutOfServiceRange: an address that the next Service may be given
// counts as taken.
func TestEntryKeepsOutOfServiceRange(t *testing.T) {
	c := newCluster(t)
	cidr := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": map[string]any{"name": "kubernetes"},
		"spec": map[string]any{"cidrs": []any{"10.96.0.0/12"}},
	}}
	if _, err := c.dyn.Resource(rangesResource).Create(context.Background(), cidr, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.apply("tenant", "evil", `{hosts: [evil.attacker.example], addresses: [10.100.1.1], `+tcpPort+`}`)
	c.apply("istio-system", "root", `{hosts: [root.example], addresses: [10.100.1.2], `+tcpPort+`}`)
	c.eventually("the refusal", func(model.ReadTxn) bool {
		got, _ := c.entryStatus("tenant", "evil")
		return strings.Contains(got.message, "reaches into 10.96.0.0/12")
	})
	c.eventually("the root namespace's alone", func(txn model.ReadTxn) bool { return c.hosts(txn) == "root.example" })
}

// TestEntryKeepsOutOfGivenRange: which address the mesh gives a host of another
// cluster, anybody can work out; a tenant must not get in between by taking it.
func TestEntryKeepsOutOfGivenRange(t *testing.T) {
	c := newCluster(t)
	c.apply("tenant", "evil", `{hosts: [evil.attacker.example], addresses: [242.12.215.79], `+tcpPort+`}`)
	c.apply("tenant", "wide", `{hosts: [wide.attacker.example], addresses: [242.0.0.0/6], `+tcpPort+`}`)
	c.apply("istio-system", "root", `{hosts: [root.example], addresses: [242.12.215.80], `+tcpPort+`}`)
	c.eventually("the refusals", func(model.ReadTxn) bool {
		one, _ := c.entryStatus("tenant", "evil")
		two, _ := c.entryStatus("tenant", "wide")
		return strings.Contains(one.message, "reaches into 242.0.0.0/8") && strings.Contains(two.message, "reaches into 242.0.0.0/8")
	})
	c.eventually("the root namespace's alone", func(txn model.ReadTxn) bool { return c.hosts(txn) == "root.example" })
}

// TestAllocatedAddressStandsInStatus: and is taken from there.
func TestAllocatedAddressStandsInStatus(t *testing.T) {
	c := newCluster(t)
	c.apply("shop", "plain", `{hosts: [plain.bar.global], `+tcpPort+`}`)
	c.eventually("an address in the status", func(txn model.ReadTxn) bool {
		_, addresses := c.entryStatus("shop", "plain")
		for s := range c.store.Services.All(txn) {
			return s.Allocated.IsValid() && addresses["plain.bar.global"] == s.Allocated
		}
		return false
	})
	moved := netip.MustParseAddr("240.240.77.77")
	if _, err := c.dyn.Resource(entriesResource).Namespace("shop").Patch(context.Background(), "plain", types.MergePatchType, []byte(movedAddress), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	c.eventually("the address of the status", func(txn model.ReadTxn) bool {
		for s := range c.store.Services.All(txn) {
			return s.Allocated == moved
		}
		return false
	})
}

// TestCheckKnowsTheCluster: the validating webhook refuses what would not be in
// force.
func TestCheckKnowsTheCluster(t *testing.T) {
	c := newCluster(t, shop()...)
	c.apply("one", "first", `{hosts: [api.example.net], addresses: [240.0.0.2], `+tcpPort+`}`)
	c.eventually("the first", func(txn model.ReadTxn) bool { return c.hosts(txn) == "api.example.net" })
	c.apply("one", "port", `{hosts: ["*.old.example.net"], resolution: NONE, ports: [{number: 9000, name: tcp}]}`)
	c.eventually("the port", func(txn model.ReadTxn) bool { return strings.Contains(c.hosts(txn), "*.old") })
	for name, tc := range map[string]struct {
		spec          string
		refused, told string
	}{
		"a Service's address": {
			spec:    `{hosts: [evil.example.net], addresses: [10.0.0.1], ` + tcpPort + `}`,
			refused: "is the address of Service shop/web",
		},
		"an older entry's address": {
			spec:    `{hosts: [evil.example.net], addresses: [240.0.0.2], ` + tcpPort + `}`,
			refused: "belongs to ServiceEntry one/first",
		},
		"an older entry's host": {
			spec: `{hosts: [api.example.net], ` + tcpPort + `}`,
			told: "is declared by ServiceEntry one/first already",
		},
		"an older entry's port, in the mesh": {
			spec: `{hosts: ["*.free.example.net"], resolution: NONE, ports: [{number: 9000, name: tcp}]}`,
			told: `"*.free.example.net" gets no connection to any address at port 9000`,
		},
		"the second of its own hosts": {
			spec: `{hosts: [b.example.net, a.example.net], addresses: [240.0.0.9], ` + tcpPort + `}`,
			told: `"b.example.net" gets no connection to 240.0.0.9:80`,
		},
		"nobody's": {
			spec: `{hosts: [free.example.net], ` + tcpPort + `}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := yaml.YAMLToJSON([]byte("kind: ServiceEntry\nmetadata: {namespace: two, name: new}\nspec: " + tc.spec))
			if err != nil {
				t.Fatal(err)
			}
			obj, err := api.Decode(raw)
			if err != nil {
				t.Fatal(err)
			}
			notes, err := c.reader.Check(obj)
			if (err == nil) != (tc.refused == "") || err != nil && !strings.Contains(err.Error(), tc.refused) {
				t.Errorf("refused: %v, want %q", err, tc.refused)
			}
			if got := strings.Join(notes, "\n"); (got == "") != (tc.told == "") || !strings.Contains(got, tc.told) {
				t.Errorf("notes %q, want %q", got, tc.told)
			}
		})
	}
}

// TestObjectsOfAnotherRevision are left to it, whether right or wrong.
func TestObjectsOfAnotherRevision(t *testing.T) {
	c := newCluster(t)
	for name, revision := range map[string]string{"theirs": "canary", "ours": "default", "anybodys": ""} {
		u := entry(name, map[string]any{
			"hosts": []any{name + ".example.net"}, "resolution": "STATIC",
			"ports":     []any{map[string]any{"name": "http", "number": int64(80), "protocol": "HTTP"}},
			"endpoints": []any{map[string]any{"address": "1.2.3.4"}},
		})
		if revision != "" {
			u.SetLabels(map[string]string{"istio.io/rev": revision})
		}
		if _, err := c.dyn.Resource(entriesResource).Namespace("shop").Create(context.Background(), u, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	c.eventually("ours", func(txn model.ReadTxn) bool { return c.hosts(txn) == "anybodys.example.net ours.example.net" })
	time.Sleep(20 * time.Millisecond)
	if got := c.hosts(c.store.Read()); got != "anybodys.example.net ours.example.net" {
		t.Errorf("hosts %q", got)
	}
}

// TestCrowdedHostIsTold: the status of an entry names the host that no
// connection reaches.
func TestCrowdedHostIsTold(t *testing.T) {
	c := newCluster(t)
	c.apply("shop", "crowd", `{hosts: [a.example.net, b.example.net], addresses: [240.0.0.9], `+tcpPort+`}`)
	c.eventually("the condition", func(model.ReadTxn) bool {
		got, _ := c.entryStatus("shop", "crowd")
		return strings.Contains(got.message, `"b.example.net" gets no connection to 240.0.0.9:80, where nothing tells it from "a.example.net"`)
	})
}
