package api

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
)

// entryAt is a ServiceEntry of a namespace, made on the given day.
func entryAt(t testing.TB, namespace, name string, day int, spec string) *Object {
	t.Helper()
	obj, err := decodeText(fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {namespace: %s, name: %s, generation: 1, creationTimestamp: %q}\nspec: %s",
		namespace, name, time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC).Format(time.RFC3339), spec))
	if err != nil {
		t.Fatal(err)
	}
	return obj
}

// withStatus is the object as it comes back with the addresses it was given.
func withStatus(o *Object, s *Settlement) *Object {
	again := *o
	again.Spec = proto.Clone(o.Spec)
	again.Status.Addresses = s.Allocated
	return &again
}

func estate() Estate {
	return Estate{
		Services: map[netip.Addr]string{netip.MustParseAddr("10.96.0.10"): "prod/payments", netip.MustParseAddr("fd00::10"): "prod/payments"},
		Ranges:   []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")},
	}
}

const onePort = "ports: [{number: 80, name: tcp, protocol: TCP}], resolution: STATIC, endpoints: [{address: 203.0.113.66}]"

func TestServicesKeepWhatIsTheirs(t *testing.T) {
	for name, c := range map[string]struct {
		namespace, spec string
		want            string // of the refusal; empty: in force
	}{
		"a cluster IP": {
			"tenant", `{hosts: [evil.example.net], addresses: [10.96.0.10], ` + onePort + `}`,
			"is the address of Service prod/payments",
		},
		"a cluster IP of the other family": {
			"tenant", `{hosts: [evil.example.net], addresses: ["fd00::10"], ` + onePort + `}`,
			"is the address of Service prod/payments",
		},
		"an address that the next Service may get": {
			"tenant", `{hosts: [evil.example.net], addresses: [10.96.7.7], ` + onePort + `}`,
			"reaches into 10.96.0.0/16",
		},
		"a prefix around the range": {
			"tenant", `{hosts: [evil.example.net], addresses: [10.0.0.0/8], ` + onePort + `}`,
			"reaches into 10.96.0.0/16",
		},
		"every address": {
			"tenant", `{hosts: [evil.example.net], addresses: [0.0.0.0/0], ` + onePort + `}`,
			"0.0.0.0/0",
		},
		"every address of IPv6": {
			"tenant", `{hosts: [evil.example.net], addresses: ["::/0"], ` + onePort + `}`,
			"takes every address",
		},
		"the root namespace may": {
			"istio-system", `{hosts: [evil.example.net], addresses: [10.96.0.10, 0.0.0.0/0], ` + onePort + `}`,
			"",
		},
		"a prefix of nobody's": {
			"tenant", `{hosts: [db.example.net], addresses: [192.168.0.0/16], ` + onePort + `}`,
			"",
		},
		"the name of another namespace's Service": {
			"tenant", `{hosts: [payments.prod.svc.cluster.local], ` + onePort + `}`,
			`the name of a Service of namespace "prod"`,
		},
		"its short name": {
			"tenant", `{hosts: [payments.prod.svc], ` + onePort + `}`,
			`the name of a Service of namespace "prod"`,
		},
		"a pod's name below it": {
			"tenant", `{hosts: [db-0.db.prod.svc.cluster.local], ` + onePort + `}`,
			`the name of a Service of namespace "prod"`,
		},
		"all names of another namespace's Services": {
			"tenant", `{hosts: ["*.prod.svc.cluster.local"], ` + onePort + `}`,
			`the name of a Service of namespace "prod"`,
		},
		"all names of Services": {
			"tenant", `{hosts: ["*.svc.cluster.local"], exportTo: ["."], ` + onePort + `}`,
			"covers the Services of every namespace",
		},
		"all names of the cluster": {
			"tenant", `{hosts: ["*.local"], exportTo: ["."], ` + onePort + `}`,
			"covers the Services of every namespace",
		},
		"the name of a Service of its own": {
			"prod", `{hosts: [payments.prod.svc.cluster.local], ` + onePort + `}`,
			"",
		},
		"a top-level domain": {
			"tenant", `{hosts: ["*.com"], ` + onePort + `}`,
			"takes a whole top-level domain",
		},
		"a top-level domain for itself": {
			"tenant", `{hosts: ["*.com"], exportTo: ["."], ` + onePort + `}`,
			"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := entryAt(t, c.namespace, "e", 1, c.spec)
			err := Settle([]*Object{o}, estate())[o].Refused
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("refused: %v, want %q", err, c.want)
			}
		})
	}
}

// TestOlderEntryKeepsItsAddress: a newcomer of another namespace gets none of
// what an entry lists, nor a prefix around it, nor what the mesh gave.
func TestOlderEntryKeepsItsAddress(t *testing.T) {
	old := entryAt(t, "foo", "old", 2, `{hosts: [httpbin.bar.global], addresses: [240.0.0.2], `+onePort+`}`)
	given := entryAt(t, "foo", "given", 2, `{hosts: [given.bar.global], `+onePort+`}`)
	held := Settle([]*Object{given}, Estate{})[given].Allocated["given.bar.global"]
	for name, c := range map[string]struct {
		namespace, spec string
		refused         bool
	}{
		"the address": {
			"tenant", `{hosts: [aaa.example.net], addresses: [240.0.0.2], ` + onePort + `}`, true,
		},
		"the address, beside the host": {
			"tenant", `{hosts: [aaa.example.net, httpbin.bar.global], addresses: [240.0.0.2], ` + onePort + `}`, true,
		},
		"a prefix around it": {
			"tenant", `{hosts: [aaa.example.net], addresses: [240.0.0.0/8], ` + onePort + `}`, true,
		},
		"what the mesh gave": {
			"tenant", `{hosts: [aaa.example.net], addresses: ["` + held.String() + `"], ` + onePort + `}`, true,
		},
		"for the same host": {
			"tenant", `{hosts: [httpbin.bar.global], addresses: [240.0.0.2], ` + onePort + `}`, false,
		},
		"for its own namespace": {
			"tenant", `{hosts: [aaa.example.net], addresses: [240.0.0.2], exportTo: ["."], ` + onePort + `}`, false,
		},
		"the same namespace": {
			"foo", `{hosts: [aaa.example.net], addresses: [240.0.0.2], ` + onePort + `}`, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			settledGiven := withStatus(given, &Settlement{Allocated: map[string]netip.Addr{"given.bar.global": held}})
			o := entryAt(t, c.namespace, "new", 3, c.spec)
			all := Settle([]*Object{o, old, settledGiven}, Estate{})
			if (all[o].Refused != nil) != c.refused {
				t.Errorf("refused: %v", all[o].Refused)
			}
			if all[old].Refused != nil || all[settledGiven].Allocated["given.bar.global"] != held {
				t.Errorf("the older entries: %+v %+v", all[old], all[settledGiven])
			}
		})
	}
}

// TestHolderIsTheSameEachTime: of several entries whose addresses a prefix holds, the
// message names who has the lowest, however often it is worked out.
func TestHolderIsTheSameEachTime(t *testing.T) {
	objects := []*Object{entryAt(t, "tenant", "wide", 3, `{hosts: [aaa.example.net], addresses: [240.0.0.0/8], `+onePort+`}`)}
	for i := range 8 {
		objects = append(objects, entryAt(t, "foo", fmt.Sprintf("old%d", i), 2,
			fmt.Sprintf(`{hosts: [h%d.example.net], addresses: [240.0.0.%d], %s}`, i, 8-i, onePort)))
	}
	for range 20 {
		refused := Settle(objects, Estate{})[objects[0]].Refused
		if refused == nil || !strings.Contains(refused.Error(), "foo/old7") {
			t.Fatalf("refused: %v; the lowest address is of foo/old7", refused)
		}
	}
}

// aimed is a host whose hash meets another's: it costs a second to find.
func aimed(victim string) string {
	slot := func(h string) uint16 {
		f := fnv.New32a()
		f.Write([]byte(h))
		return uint16(f.Sum32()>>16) ^ uint16(f.Sum32())
	}
	for i := 0; ; i++ {
		if h := fmt.Sprintf("a%d.tenant.global", i); slot(h) == slot(victim) {
			return h
		}
	}
}

// TestAddressCannotBeAimedAt: a host made to have another's hash, before it in
// the alphabet, does not get its address, whether the status was written yet or
// not; once it was, not by a status of its own that claims the address either.
func TestAddressCannotBeAimedAt(t *testing.T) {
	const victim = "zahlung.prod.global"
	attacker := aimed(victim)
	old := entryAt(t, "prod", "zahlung", 2, `{hosts: [`+victim+`], `+onePort+`}`)
	alone := Settle([]*Object{old}, Estate{})[old]
	evil := entryAt(t, "tenant", "aaa", 3, `{hosts: [`+attacker+`], `+onePort+`}`)
	liar := *evil
	liar.Status.Addresses = map[string]netip.Addr{attacker: alone.Allocated[victim]}
	written := withStatus(old, alone)
	for _, pair := range [][2]*Object{{old, evil}, {written, evil}, {written, &liar}} {
		all := Settle([]*Object{pair[1], pair[0]}, Estate{})
		if got := all[pair[0]].Allocated[victim]; got != alone.Allocated[victim] {
			t.Errorf("%s moved from %s to %s", victim, alone.Allocated[victim], got)
		}
		if a := all[pair[1]].Allocated[attacker]; !a.IsValid() || a == alone.Allocated[victim] {
			t.Errorf("%s has %s", attacker, a)
		}
	}
}

// TestAddressesStay: by their status, hosts keep their addresses while others
// come before them and go.
func TestAddressesStay(t *testing.T) {
	var entries []*Object
	for i := range 1000 {
		entries = append(entries, entryAt(t, "ns", fmt.Sprint("e", i), 2, fmt.Sprintf(`{hosts: [svc%d.ns.global], %s}`, i, onePort)))
	}
	first := Settle(entries, Estate{})
	seen := map[netip.Addr]bool{}
	var kept []*Object
	for i, o := range entries {
		a := first[o].Allocated[fmt.Sprintf("svc%d.ns.global", i)]
		if !allocatable(a) || seen[a] {
			t.Fatalf("svc%d has %s", i, a)
		}
		seen[a] = true
		if i%2 == 1 {
			kept = append(kept, withStatus(o, first[o]))
		}
	}
	for i := range 500 {
		kept = append(kept, entryAt(t, "ns", fmt.Sprint("older", i), 1, fmt.Sprintf(`{hosts: [other%d.ns.global], %s}`, i, onePort)))
	}
	second := Settle(kept, Estate{})
	for i, o := range kept[:500] {
		host := fmt.Sprintf("svc%d.ns.global", 2*i+1)
		if second[o].Allocated[host] != o.Status.Addresses[host] {
			t.Fatalf("%s moved", host)
		}
	}
}

func TestNoAddressWhereNoneIsWanted(t *testing.T) {
	o := entryAt(t, "ns", "e", 1, `{hosts: [a.example.net], `+onePort+`}`)
	o.Labels = map[string]string{LabelAllocate: "false"}
	if got := Settle([]*Object{o}, Estate{})[o].Allocated; got != nil {
		t.Errorf("allocated %v", got)
	}
}

// TestOneNamespacePerHost: who comes second is told; the namespace that the name
// speaks of comes first.
func TestOneNamespacePerHost(t *testing.T) {
	one := entryAt(t, "one", "a", 1, `{hosts: [api.example.net, httpbin.bar.global], `+onePort+`}`)
	two := entryAt(t, "two", "b", 2, `{hosts: [api.example.net], `+onePort+`}`)
	bar := entryAt(t, "bar", "c", 3, `{hosts: [httpbin.bar.global], `+onePort+`}`)
	quiet := entryAt(t, "four", "d", 1, `{hosts: [alone.example.net], exportTo: ["."], `+onePort+`}`)
	later := entryAt(t, "five", "e", 2, `{hosts: [alone.example.net], `+onePort+`}`)
	all := Settle([]*Object{bar, two, one, quiet, later}, Estate{})
	for o, want := range map[*Object]string{
		one:   `"httpbin.bar.global" is declared by ServiceEntry bar/c already`,
		two:   `"api.example.net" is declared by ServiceEntry one/a already`,
		bar:   "",
		quiet: "",
		later: "",
	} {
		got := strings.Join(all[o].Notes, "\n")
		if all[o].Refused != nil || (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: notes %q, want %q (%v)", o, got, want, all[o].Refused)
		}
	}
}

func TestStatusIsRead(t *testing.T) {
	obj, err := decodeText(`
kind: ServiceEntry
metadata: {namespace: a, name: b, generation: 3}
spec: {hosts: [x.example.net], ports: [{number: 80, name: http}]}
status:
  addresses: [{value: 240.240.0.1, host: X.example.net}, {value: nonsense, host: z.example.net}]
  conditions: [{type: Reconciled, status: "False", observedGeneration: "3"}]`)
	if err != nil {
		t.Fatal(err)
	}
	if obj.Status.Addresses["x.example.net"] != netip.MustParseAddr("240.240.0.1") || len(obj.Status.Addresses) != 1 || !obj.Status.Refused {
		t.Errorf("status: %+v", obj.Status)
	}
	if s := decodeStatus([]byte(`{"conditions": [{"type": "Reconciled", "status": "False", "observedGeneration": 2}]}`), 3); s.Refused {
		t.Error("what was found of an older generation still counts")
	}
}
