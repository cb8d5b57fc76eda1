package api

import (
	"strings"
	"testing"
)

// TestTakesGateways: one document for each kind of server.
func TestTakesGateways(t *testing.T) {
	for name, servers := range map[string]string{
		"http":       `{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}`,
		"http2":      `{port: {number: 80, name: h2, protocol: http2}, hosts: ["shop.example.com", "./a.example.com", "other/*.example.com", "*-api.example.com"]}`,
		"grpc":       `{port: {number: 9000, name: grpc, protocol: GRPC}, hosts: ["*/rpc.example.com"]}`,
		"redirect":   `{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"], tls: {httpsRedirect: true}}`,
		"https":      `{port: {number: 443, name: https, protocol: HTTPS}, hosts: ["*"], tls: {mode: SIMPLE, credentialName: shop-tls, minProtocolVersion: TLSV1_2, maxProtocolVersion: TLSV1_3}}`,
		"mutual":     `{port: {number: 443, name: https, protocol: https}, hosts: ["a.example.com"], tls: {mode: MUTUAL, credentialName: shop-tls}}`,
		"optional":   `{port: {number: 443, name: https, protocol: HTTPS}, hosts: ["a.example.com"], tls: {mode: OPTIONAL_MUTUAL, credentialName: shop-tls}}`,
		"passed":     `{port: {number: 15443, name: tls, protocol: TLS}, tls: {mode: AUTO_PASSTHROUGH}, hosts: ["*.global"]}`,
		"mesh":       `{port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: ISTIO_MUTUAL}, hosts: ["*"]}, {port: {number: 8443, name: tls, protocol: TLS}, tls: {mode: ISTIO_MUTUAL}, hosts: ["*"]}`,
		"names":      `{port: {number: 443, name: https, protocol: HTTPS}, hosts: ["*"], tls: {mode: MUTUAL, credentialName: x, subjectAltNames: [a, "spiffe://b/c"]}}, {port: {number: 444, name: tls, protocol: TLS}, tls: {mode: ISTIO_MUTUAL, subjectAltNames: ["spiffe://cluster.local/ns/a/sa/b"]}, hosts: ["*"]}`,
		"tls":        `{port: {number: 443, name: tls, protocol: TLS}, tls: {mode: SIMPLE, credentialName: shop-tls}, hosts: ["a.example.com"]}`,
		"tcp":        `{port: {number: 3306, name: tcp, protocol: TCP}, hosts: ["*"]}, {port: {number: 27017, name: mongo, protocol: MONGO}, hosts: ["*-x.example.com"]}`,
		"any TLS":    `{port: {number: 443, name: tls, protocol: TLS}, tls: {mode: PASSTHROUGH}, hosts: ["*", "./a.example.com"]}`,
		"to service": `{port: {number: 15012, name: tls, protocol: TLS}, tls: {mode: PASSTHROUGH}, hosts: [istiod.istio-system.svc]}`,
	} {
		t.Run(name, func(t *testing.T) {
			obj, err := decodeYAML(t, document("Gateway", `{selector: {istio: ingressgateway}, servers: [`+servers+`]}`))
			if err != nil {
				t.Fatal(err)
			}
			passes := strings.Contains(servers, "AUTO_PASSTHROUGH") || strings.Contains(servers, "svc")
			if warnings := Warnings(obj); (len(warnings) > 0) != passes {
				t.Errorf("warnings %q", warnings)
			}
		})
	}
}

// TestRefusesGateways: what is wrong or not honoured, with the path of the field.
func TestRefusesGateways(t *testing.T) {
	for name, c := range map[string]struct{ server, want string }{
		"no hosts": {
			`{port: {number: 80, name: http, protocol: HTTP}}`,
			"spec.servers[0].hosts: is empty",
		},
		"no host": {
			`{port: {number: 80, name: http, protocol: HTTP}, hosts: ["a_b"]}`,
			`spec.servers[0].hosts[0]: "a_b" is no DNS name`,
		},
		"no namespace": {
			`{port: {number: 80, name: http, protocol: HTTP}, hosts: ["A_/b.example"]}`,
			`spec.servers[0].hosts[0]: "A_" is none of`,
		},
		"TLS of plaintext": {
			`{port: {number: 80, name: http, protocol: HTTP}, tls: {mode: SIMPLE}, hosts: ["*"]}`,
			"spec.servers[0].tls: has no place beside port.protocol HTTP",
		},
		"a redirect of TLS": {
			`{port: {number: 443, name: tls, protocol: TLS}, tls: {mode: AUTO_PASSTHROUGH, httpsRedirect: true}, hosts: ["*"]}`,
			"spec.servers[0].tls.httpsRedirect: changes nothing here",
		},
		"HTTPS without a certificate": {
			`{port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: SIMPLE}, hosts: ["*"]}`,
			"spec.servers[0].tls.credentialName: is missing",
		},
		"a certificate of another namespace": {
			`{port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: other/tls}, hosts: ["*"]}`,
			`spec.servers[0].tls.credentialName: "other/tls" is no name of a Secret`,
		},
		"an old version": {
			`{port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: tls, minProtocolVersion: TLSV1_0}, hosts: ["*"]}`,
			"spec.servers[0].tls.minProtocolVersion: TLSV1_0 is not spoken any more",
		},
		"versions of which there are none": {
			`{port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: tls, minProtocolVersion: TLSV1_3, maxProtocolVersion: TLSV1_2}, hosts: ["*"]}`,
			"spec.servers[0].tls.minProtocolVersion: TLSV1_3 is above",
		},
		"cipher suites": {
			`{port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: tls, cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256]}, hosts: ["*"]}`,
			"spec.servers[0].tls.cipherSuites: is not honoured yet",
		},
		"HTTPS by a pattern that no certificate has": {
			`{port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: tls}, hosts: ["*-a.example"]}`,
			`spec.servers[0].hosts[0]: "*-a.example": in a server name`,
		},
		"a certificate that nobody is shown": {
			`{port: {number: 443, name: tls, protocol: TLS}, tls: {mode: AUTO_PASSTHROUGH, credentialName: tls}, hosts: ["*"]}`,
			"spec.servers[0].tls.credentialName: changes nothing here",
		},
		"the mesh's own": {
			`{port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: ISTIO_MUTUAL, credentialName: x, minProtocolVersion: TLSV1_2}, hosts: ["*"]}`,
			"spec.servers[0].tls.credentialName: changes nothing here; it is for port.protocol HTTPS or TLS with mode SIMPLE, MUTUAL or OPTIONAL_MUTUAL; spec.servers[0].tls: minProtocolVersion",
		},
		"names of clients that show none": {
			`{port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: x, subjectAltNames: [a]}, hosts: ["*"]}`,
			"spec.servers[0].tls.subjectAltNames: changes nothing with mode SIMPLE",
		},
		"no name of clients": {
			`{port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: MUTUAL, credentialName: x, subjectAltNames: [""]}, hosts: ["*"]}`,
			"spec.servers[0].tls.subjectAltNames[0]: is empty",
		},
		"names of clients where TLS does not end": {
			`{port: {number: 443, name: tls, protocol: TLS}, tls: {mode: PASSTHROUGH, subjectAltNames: [a]}, hosts: ["*"]}`,
			"spec.servers[0].tls.subjectAltNames: changes nothing here",
		},
		"TCP over TLS": {
			`{port: {number: 80, name: tcp, protocol: TCP}, tls: {mode: SIMPLE, credentialName: x}, hosts: ["*"]}`,
			"spec.servers[0].tls: has no place beside port.protocol TCP",
		},
		"no protocol": {
			`{port: {number: 80, name: x, protocol: UDP}, tls: {mode: AUTO_PASSTHROUGH}, hosts: ["*"]}`,
			`spec.servers[0].port.protocol: "UDP" is none of HTTP`,
		},
		"TLS without tls": {
			`{port: {number: 443, name: tls, protocol: TLS}, hosts: ["*"]}`,
			"spec.servers[0].tls: is missing",
		},
		"address": {
			`{port: {number: 80, name: http, protocol: HTTP}, bind: 127.0.0.1, hosts: ["*"]}`,
			"spec.servers[0].bind: is not honoured yet",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decodeYAML(t, document("Gateway", `{selector: {istio: ingressgateway}, servers: [`+c.server+`]}`))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}
