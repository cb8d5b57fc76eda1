package api

import (
	"strings"
	"testing"
)

// document is an object of a tenant's, around a spec.
func document(kind, spec string) string {
	group := GroupNetworking
	if kind == "PeerAuthentication" {
		group = GroupSecurity
	}
	return "apiVersion: " + group + "/v1\nkind: " + kind + "\nmetadata: {namespace: tenant, name: x}\nspec: " + spec
}

// TestRefusesWhatLeadsAstray holds what one object may not ask for, whatever
// else the cluster holds.
func TestRefusesWhatLeadsAstray(t *testing.T) {
	static := func(address string) string {
		return `{hosts: [x.example], ports: [{number: 80, name: http}], resolution: STATIC, endpoints: [{address: "` + address + `"}]}`
	}
	named := func(address string) string {
		return `{hosts: [x.example], ports: [{number: 80, name: http}], resolution: DNS, endpoints: [{address: "` + address + `"}]}`
	}
	server := func(port, name string) string {
		return `{port: {number: ` + port + `, name: ` + name + `, protocol: TLS}, tls: {mode: AUTO_PASSTHROUGH}, hosts: ["*.global"]}`
	}
	for name, c := range map[string]struct {
		kind, spec, want string
	}{
		"loopback": {
			"ServiceEntry", static("127.0.0.1"),
			"spec.endpoints[0].address",
		},
		"another loopback": {
			"ServiceEntry", static("127.8.0.1"),
			"spec.endpoints[0].address",
		},
		"loopback as IPv6": {
			"ServiceEntry", static("::1"),
			"spec.endpoints[0].address",
		},
		"loopback mapped to IPv6": {
			"ServiceEntry", static("::ffff:127.0.0.1"),
			"spec.endpoints[0].address",
		},
		"metadata service": {
			"ServiceEntry", static("169.254.169.254"),
			"spec.endpoints[0].address",
		},
		"link-local IPv6": {
			"ServiceEntry", static("fe80::1"),
			"spec.endpoints[0].address",
		},
		"unspecified": {
			"ServiceEntry", static("0.0.0.0"),
			"spec.endpoints[0].address",
		},
		"loopback resolved by DNS": {
			"ServiceEntry", named("127.0.0.1"),
			"spec.endpoints[0].address",
		},
		"localhost": {
			"ServiceEntry", named("LocalHost."),
			"spec.endpoints[0].address",
		},
		"below localhost": {
			"ServiceEntry", named("a.localhost"),
			"spec.endpoints[0].address",
		},
		"ip6-localhost": {
			"ServiceEntry", named("ip6-localhost"),
			"spec.endpoints[0].address",
		},
		"localhost as its own endpoint": {
			"ServiceEntry", `{hosts: [localhost], ports: [{number: 80, name: http}], resolution: DNS}`,
			"spec.hosts[0]",
		},
		"a sidecar's own port": {
			"ServiceEntry", `{hosts: [x.example], ports: [{number: 15006, name: tcp}]}`,
			"spec.ports[0].number: 15006 is reserved",
		},
		"a gateway's readiness port": {
			"Gateway", `{selector: {istio: ingressgateway}, servers: [` + server("15021", "tls") + `]}`,
			"spec.servers[0].port.number: 15021 is reserved",
		},
		"a gateway's metrics port": {
			"Gateway", `{selector: {istio: ingressgateway}, servers: [` + server("15090", "tls") + `]}`,
			"spec.servers[0].port.number: 15090 is reserved",
		},
		"one name for two servers' ports": {
			"Gateway", `{selector: {istio: ingressgateway}, servers: [` + server("15443", "tls") + `, ` + server("15444", "tls") + `]}`,
			"spec.servers[1].port.name",
		},
		"exported to all and one": {
			"ServiceEntry", `{hosts: [x.example], ports: [{number: 80, name: http}], exportTo: ["*", other]}`,
			"spec.exportTo[0]",
		},
		"exported to nobody and one": {
			"ServiceEntry", `{hosts: [x.example], ports: [{number: 80, name: http}], exportTo: ["~", other]}`,
			"spec.exportTo[0]",
		},
		"a rule for nobody": {
			"DestinationRule", `{host: x.example, exportTo: ["~"]}`,
			"spec.exportTo[0]",
		},
		"port name": {
			"ServiceEntry", `{hosts: [x.example], ports: [{number: 80, name: "Http_Port!"}]}`,
			"spec.ports[0].name",
		},
		"subset name with a dot": {
			"DestinationRule", `{host: x.example, subsets: [{name: v1.1}]}`,
			"spec.subsets[0].name",
		},
		"empty traffic policy": {
			"DestinationRule", `{host: x.example, trafficPolicy: {}}`,
			"spec.trafficPolicy: is empty",
		},
		"names checked without TLS": {
			"DestinationRule", `{host: x.example, trafficPolicy: {tls: {mode: DISABLE, subjectAltNames: [a]}}}`,
			"spec.trafficPolicy.tls.subjectAltNames",
		},
		"partial wildcard as a server name": {
			"ServiceEntry", `{hosts: ["*-api.foo.com"], ports: [{number: 443, name: tls, protocol: TLS}]}`,
			"spec.ports[0].protocol",
		},
		"forward proxy": {
			"ServiceEntry", `{hosts: [x.example], ports: [{number: 80, name: p, protocol: HTTP_PROXY}]}`,
			"spec.ports[0].protocol: HTTP_PROXY is not honoured",
		},
		"a prefix that a name is to resolve to": {
			"ServiceEntry", `{hosts: [x.example], addresses: [10.1.1.1/32, 10.20.0.0/16], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS}`,
			`spec.addresses[1]: "10.20.0.0/16": a prefix cannot stand with resolution DNS`,
		},
		"network's gateways": {
			"ServiceEntry", `{hosts: [x.example], ports: [{number: 80, name: http}], resolution: STATIC, endpoints: [{network: net2}]}`,
			"spec.endpoints[0].address",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decodeYAML(t, document(c.kind, c.spec))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// TestAcceptsAndWarns holds what is valid in Istio and was refused here once,
// with what its author is told.
func TestAcceptsAndWarns(t *testing.T) {
	for name, c := range map[string]struct {
		kind, spec string
		warning    string // empty: none
	}{
		"no ports": {
			"ServiceEntry", `{hosts: [x.example], addresses: [240.0.0.9]}`,
			"spec.ports: lists no port",
		},
		"static without endpoints": {
			"ServiceEntry", `{hosts: [x.example], resolution: STATIC, ports: [{number: 80, name: http}]}`,
			"spec.endpoints: is empty",
		},
		"partial wildcard": {
			"ServiceEntry", `{hosts: ["*-api.foo.com"], ports: [{number: 80, name: http, protocol: HTTP}]}`,
			"",
		},
		"partial wildcard of a rule": {
			"DestinationRule", `{host: "*b.foo.com", trafficPolicy: {tls: {mode: DISABLE}}}`,
			"",
		},
		"trailing dot": {
			"ServiceEntry", `{hosts: [foo.com.], ports: [{number: 80, name: http}]}`,
			"",
		},
		"a host twice": {
			"ServiceEntry", `{hosts: [foo.com, foo.com], ports: [{number: 80, name: http}]}`,
			"",
		},
		"UDP": {
			"ServiceEntry", `{hosts: [foo.com], ports: [{number: 53, name: udp, protocol: UDP}, {number: 80, name: http}]}`,
			"spec.ports[0]: changes nothing",
		},
		"endpoint of a network, outside of the mesh": {
			"ServiceEntry", `{hosts: [foo.com], resolution: STATIC, location: MESH_EXTERNAL, ports: [{number: 80, name: http}], endpoints: [{address: 10.9.0.1, network: net2}]}`,
			"spec.endpoints[0].network: hides the endpoint",
		},
		"endpoint of a network, with a name": {
			"ServiceEntry", `{hosts: [foo.com], resolution: DNS, ports: [{number: 80, name: http}], endpoints: [{address: a.example.com, network: net2}]}`,
			"spec.endpoints[0].network: changes nothing",
		},
		"a single address as a prefix": {
			"ServiceEntry", `{hosts: [x.example], addresses: [10.1.1.1/32], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS}`,
			"",
		},
		"endpoints of two zones of a region": {
			"ServiceEntry", `{hosts: [x.example], resolution: STATIC, ports: [{number: 80, name: http}], endpoints: [{address: 10.9.0.1, locality: r1/z1}, {address: 10.9.0.2, locality: r1/z2}]}`,
			"",
		},
		"an endpoint without a region": {
			"ServiceEntry", `{hosts: [x.example], resolution: STATIC, ports: [{number: 80, name: http}], endpoints: [{address: 10.9.0.1, locality: /z1}]}`,
			`spec.endpoints[0].locality: "/z1" names no region`,
		},
		"a locality setting that is switched off": {
			"DestinationRule", `{host: x.example, trafficPolicy: {portLevelSettings: [{port: {number: 80}, loadBalancer: {localityLbSetting: {enabled: false, failover: [{from: a, to: b}]}}}]}}`,
			"spec.trafficPolicy.portLevelSettings[0].loadBalancer.localityLbSetting.failover: changes nothing while enabled is false",
		},
		"endpoints of two regions": {
			"ServiceEntry", `{hosts: [x.example], resolution: STATIC, ports: [{number: 80, name: http}], endpoints: [{address: 10.9.0.1, locality: r1/z1}, {address: 10.9.0.2, locality: r2/z9}]}`,
			"",
		},
		"gateway of any pods": {
			"Gateway", `{servers: [{port: {number: 15443, name: tls, protocol: TLS}, tls: {mode: AUTO_PASSTHROUGH}, hosts: ["*.global"]}]}`,
			`spec.servers[0]: counts for gateway pods of namespace "tenant" only`,
		},
		"gateway for the host of a ServiceEntry": {
			"Gateway", `{selector: {a: b}, servers: [{port: {number: 15443, name: tls, protocol: TLS}, tls: {mode: AUTO_PASSTHROUGH}, hosts: ["*.example.com"]}]}`,
			"never to hosts of ServiceEntries",
		},
		"passthrough of HTTPS": {
			"Gateway", `{selector: {a: b}, servers: [{port: {number: 15443, name: tls, protocol: HTTPS}, tls: {mode: AUTO_PASSTHROUGH}, hosts: ["*.global"]}]}`,
			`spec.servers[0]: counts`,
		},
		"a server name without TLS": {
			"DestinationRule", `{host: x.example, trafficPolicy: {tls: {mode: DISABLE, sni: a.b}}}`,
			"spec.trafficPolicy.tls.sni: changes nothing",
		},
		"subsets": {
			"DestinationRule", `{host: web, subsets: [{name: v2, labels: {version: v2}}]}`,
			"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			obj, err := decodeYAML(t, document(c.kind, c.spec))
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(Warnings(obj), "\n")
			if (c.warning == "") != (got == "") || !strings.Contains(got, c.warning) {
				t.Fatalf("warnings %q, want one with %q", got, c.warning)
			}
		})
	}
}

func TestMetadataWithoutEffectIsTold(t *testing.T) {
	obj, err := decodeYAML(t, `
kind: ServiceEntry
metadata:
  namespace: tenant
  name: x
  labels: {istio.io/rev: canary, networking.istio.io/enable-autoallocate-ip: "false", istio.io/use-waypoint: w, app: mine}
  annotations: {networking.istio.io/traffic-distribution: PreferCloose, proxy.istio.io/config: "{}"}
spec: {hosts: [x.example], ports: [{number: 80, name: http}]}`)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(Warnings(obj), "\n")
	for _, want := range []string{"metadata.labels[istio.io/use-waypoint]", `metadata.annotations[networking.istio.io/traffic-distribution]: "PreferCloose" changes nothing; give one of Any, PreferClose`, "metadata.annotations[proxy.istio.io/config]"} {
		if !strings.Contains(got, want) {
			t.Errorf("no word of %s in %q", want, got)
		}
	}
	if len(Warnings(obj)) != 3 {
		t.Errorf("warnings %q, want three", got)
	}
}
