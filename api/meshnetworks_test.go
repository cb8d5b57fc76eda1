package api

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestMeshNetworks: what is wrong is left out and told of, and takes nothing
// else with it.
func TestMeshNetworks(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want []string // what each warning begins with
		// What is left of network a: fromRegistry, fromCidr and gateways.
		left string
	}{
		"as the guide has it": {
			in:   `a: {endpoints: [{fromRegistry: main0}], gateways: [{registry_service_name: gw.istio-system.svc.cluster.local, port: 443}]}`,
			left: "main0 gw.istio-system.svc.cluster.local:443",
		},
		"addresses and names": {
			in:   `a: {endpoints: [{fromCidr: 10.1.2.3/16}], gateways: [{address: 192.0.2.1, port: 15443}, {address: "2001:db8::1", port: 1}, {address: gw.example, port: 2}]}`,
			left: "10.1.0.0/16 192.0.2.1:15443 2001:db8::1:1 gw.example:2",
		},
		"a range that is none": {
			in:   `a: {endpoints: [{fromCidr: 10.1.0.0}, {fromCidr: 10.1.0.0/33}, {fromRegistry: x}]}`,
			want: []string{`a.endpoints[0]: fromCidr "10.1.0.0" is no range`, `a.endpoints[1]: fromCidr "10.1.0.0/33" is no range`},
			left: "x",
		},
		"an endpoint that names nothing": {
			in:   `a: {endpoints: [{}, {fromRegistry: x}]}`,
			want: []string{"a.endpoints[0]: it names neither fromRegistry"},
			left: "x",
		},
		"an endpoint that names two things": {
			in:   `a: {endpoints: [{fromRegistry: x, fromCidr: 10.0.0.0/8}, {fromRegistry: z}]}`,
			want: []string{"a.endpoints[0]: "},
			left: "z",
		},
		"a gateway without a port": {
			in:   `a: {gateways: [{address: 192.0.2.1}, {address: 192.0.2.2, port: 1}]}`,
			want: []string{"a.gateways[0]: port is missing"},
			left: "192.0.2.2:1",
		},
		"a port that is none": {
			in:   `a: {gateways: [{address: 192.0.2.1, port: 65536}]}`,
			want: []string{"a.gateways[0]: port 65536 is no port"},
		},
		"a gateway that names nothing": {
			in:   `a: {gateways: [{port: 15443}]}`,
			want: []string{"a.gateways[0]: it names neither address"},
		},
		"a Service's short name": {
			in:   `a: {gateways: [{registryServiceName: gw.istio-system, port: 15443}]}`,
			want: []string{`a.gateways[0]: registryServiceName "gw.istio-system" is no full name`},
		},
		"addresses that are none": {
			in: `a: {gateways: [{address: "192.0.2.1:15443", port: 1}, {address: 192.0.2.300, port: 1}, {address: 127.0.0.1, port: 1}, {address: "https://x", port: 1}, {address: "", port: 1}]}`,
			want: []string{`a.gateways[0]: address "192.0.2.1:15443" is neither`, `a.gateways[1]: address "192.0.2.300" is neither`,
				`a.gateways[2]: address "127.0.0.1" leads to no other machine`, `a.gateways[3]: address "https://x"`, `a.gateways[4]: address ""`},
		},
		"one cluster in two networks": {
			in:   `{a: {endpoints: [{fromRegistry: x}]}, b: {endpoints: [{fromRegistry: x}]}}`,
			want: []string{"b.endpoints[0]: cluster x is in network a already"},
			left: "x",
		},
		"one range in two networks": {
			in:   `{a: {endpoints: [{fromCidr: 10.1.0.0/16}]}, b: {endpoints: [{fromCidr: 10.1.255.0/16}]}}`,
			want: []string{"b.endpoints[0]: range 10.1.0.0/16 is in network a already"},
			left: "10.1.0.0/16",
		},
		"unknown fields": {
			in:   `a: {endpoint: [], endpoints: [{fromRegistry: x}], gateways: {port: 1}}`,
			want: []string{"a.endpoint: unknown field", "a.gateways: want a list"},
			left: "x",
		},
		"an unknown field of a gateway": {
			in:   `a: {gateways: [{address: 192.0.2.1, port: 1, prot: 2}, {address: 192.0.2.2, port: 2}]}`,
			want: []string{"a.gateways[0]: "},
			left: "192.0.2.2:2",
		},
		"no mapping": {
			in:   `{a: 7, b: {endpoints: [{fromRegistry: x}]}}`,
			want: []string{"a: want a mapping"},
		},
		"a network without a name": {
			in:   `{"": {endpoints: [{fromRegistry: x}]}, a: {endpoints: [{fromRegistry: z}]}}`,
			want: []string{`"": is no name of a network`},
			left: "z",
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := c.in
			if !strings.HasPrefix(in, "{") {
				in = "{" + in + "}"
			}
			nets, warnings, err := LoadMeshNetworks("networks: " + in)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.EqualFunc(warnings, c.want, strings.HasPrefix) {
				t.Errorf("warnings\n%s\nwant\n%s", strings.Join(warnings, "\n"), strings.Join(c.want, "\n"))
			}

			var left []string
			for _, ep := range nets.Networks["a"].GetEndpoints() {
				left = append(left, ep.GetFromRegistry()+ep.GetFromCidr())
			}
			for _, gw := range nets.Networks["a"].GetGateways() {
				left = append(left, gw.GetAddress()+gw.GetRegistryServiceName()+":"+strconv.Itoa(int(gw.Port)))
			}
			if got := strings.Join(left, " "); got != c.left {
				t.Errorf("left is %q, want %q", got, c.left)
			}
		})
	}

	if _, _, err := LoadMeshNetworks("- networks"); err == nil {
		t.Error("a list was read as networks")
	}
	if _, warnings, _ := LoadMeshNetworks("network: {}"); len(warnings) != 1 || !strings.HasPrefix(warnings[0], "network: unknown field") {
		t.Errorf("an unknown field: %q", warnings)
	}
}

// TestMeshNetworksDoubts: what holds and is most likely not meant.
func TestMeshNetworksDoubts(t *testing.T) {
	for in, want := range map[string][]string{
		`{a: {endpoints: [{fromRegistry: x}], gateways: [{address: 192.0.2.1, port: 1}]}}`: nil,
		`{a: {gateways: [{address: 192.0.2.1, port: 1}]}}`:                                 {"a: has no endpoints"},
		`{own: {gateways: [{address: 192.0.2.1, port: 1}]}}`:                               nil,
		`{a: {endpoints: [{fromRegistry: x}]}}`:                                            {"a: has no gateways"},
		`{a: {endpoints: [{fromRegistry: x}], gateways: [{address: 192.0.2.1, port: 1, locality: r/z}]}}`: {
			"a.gateways[0].locality: changes nothing",
		},
		`{a: {endpoints: [{fromCidr: 10.0.0.0/8}], gateways: [{address: 192.0.2.1, port: 1}]}, b: {endpoints: [{fromCidr: 10.1.0.0/16}], gateways: [{address: 192.0.2.2, port: 1}]}}`: {
			"b: its range 10.1.0.0/16 is within 10.0.0.0/8 of network a",
		},
	} {
		nets, wrong, err := LoadMeshNetworks("networks: " + in)
		if err != nil || len(wrong) > 0 {
			t.Fatalf("%s: %v %q", in, err, wrong)
		}
		if got := MeshNetworksDoubts(nets, "own"); !slices.EqualFunc(got, want, strings.HasPrefix) {
			t.Errorf("%s: doubts %q, want %q", in, got, want)
		}
	}
}
