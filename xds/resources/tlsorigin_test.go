package resources

import (
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// outside is a ServiceEntry for www.example, whose port 80 leads to 443, or for a pattern.
func outside(host, resolution string) string {
	return "kind: ServiceEntry\nmetadata: {name: www, namespace: shop}\nspec: {hosts: ['" + host + "'], resolution: " + resolution +
		", ports: [{number: 80, name: http-port, protocol: HTTP, targetPort: 443}, {number: 443, name: https-port, protocol: HTTPS}]}\n---\n"
}

// TestOriginatesTLS holds each field of tls to what a proxy is to do, on the port for
// which it is said, and on no other.
func TestOriginatesTLS(t *testing.T) {
	const (
		system = `"trusted_ca": {"filename": "/etc/ssl/certs/ca-certificates.crt"}`
		is     = `"match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "www.example"}}]`
		params = `"tls_params": {"tls_minimum_protocol_version": "TLSv1_2"}`
	)
	named := func(kind, name string) string {
		return `"match_typed_subject_alt_names": [{"san_type": "` + kind + `", "matcher": {"exact": "` + name + `"}}]`
	}
	for name, c := range map[string]struct{ host, tls, want string }{
		"simple": {"www.example", `{mode: SIMPLE}`, `{"sni": "www.example", "common_tls_context": {` + params + `, "validation_context": {` + system + `, ` + is + `}}}`},
		"another server name": {
			"www.example", `{mode: SIMPLE, sni: a.example}`,
			`{"sni": "a.example", "common_tls_context": {` + params + `, "validation_context": {` + system + `, ` + named("DNS", "a.example") + `}}}`,
		},
		"names of the certificate": {
			"www.example", `{mode: SIMPLE, subjectAltNames: ["spiffe://a/b"]}`,
			`{"sni": "www.example", "common_tls_context": {` + params + `, "validation_context": {` + system + `, ` + named("URI", "spiffe://a/b") + `}}}`,
		},
		"an address": {
			"www.example", `{mode: SIMPLE, subjectAltNames: ["10.0.0.1"]}`,
			`{"sni": "www.example", "common_tls_context": {` + params + `, "validation_context": {` + system + `, ` + named("IP_ADDRESS", "10.0.0.1") + `}}}`,
		},
		"roots": {
			"www.example", `{mode: SIMPLE, caCertificates: /etc/ca.pem}`,
			`{"sni": "www.example", "common_tls_context": {` + params + `, "validation_context": {"trusted_ca": {"filename": "/etc/ca.pem"}, ` + is + `}}}`,
		},
		"unverified": {"www.example", `{mode: SIMPLE, insecureSkipVerify: true}`, `{"sni": "www.example", "common_tls_context": {` + params + `}}`},
		"mutual": {
			"www.example", `{mode: MUTUAL, clientCertificate: /etc/tls.crt, privateKey: /etc/tls.key}`,
			`{"sni": "www.example", "common_tls_context": {` + params + `, "validation_context": {` + system + `, ` + is + `},
				"tls_certificates": [{"certificate_chain": {"filename": "/etc/tls.crt"}, "private_key": {"filename": "/etc/tls.key"}}]}}`,
		},
		"a pattern": {
			"*.example", `{mode: SIMPLE}`,
			`{"common_tls_context": {` + params + `, "validation_context": {` + system + `, "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"suffix": ".example"}}]}}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			resolution := "DNS"
			if c.host[0] == '*' {
				resolution = "NONE"
			}
			s := newScene(t, outside(c.host, resolution)+"kind: DestinationRule\nmetadata: {name: www, namespace: shop}\n"+
				"spec: {host: '"+c.host+"', trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: "+c.tls+"}]}}\n")
			want := &tlsv3.UpstreamTlsContext{}
			if err := protojson.Unmarshal([]byte(c.want), want); err != nil {
				t.Fatal(err)
			}
			got := &tlsv3.UpstreamTlsContext{}
			cluster := s.cluster(s.client, "outbound|80||"+c.host)
			if err := cluster.GetTransportSocket().GetTypedConfig().UnmarshalTo(got); err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(got, want) {
				t.Errorf("got  %s\nwant %s", protojson.Format(got), protojson.Format(want))
			}
			if other := s.cluster(s.client, "outbound|443||"+c.host); other.GetTransportSocket() != nil {
				t.Errorf("port 443 has %s", protojson.Format(other.GetTransportSocket()))
			}
			if cluster.GetType() == clusterv3.Cluster_STRICT_DNS {
				at := cluster.LoadAssignment.Endpoints[0].LbEndpoints[0].GetEndpoint().Address.GetSocketAddress()
				if at.Address != c.host || at.GetPortValue() != 443 {
					t.Errorf("it leads to %v", at)
				}
			}
		})
	}
}

// TestOwnTLSOfServices: a rule for a Service of the mesh has its clients speak TLS to its
// pods, whether those have sidecars or not.
func TestOwnTLSOfServices(t *testing.T) {
	s := newScene(t, "kind: DestinationRule\nmetadata: {name: web, namespace: shop}\nspec: {host: web, trafficPolicy: {tls: {mode: SIMPLE}}}\n")
	c := s.cluster(s.client, "outbound|80||"+webHost)
	got := &tlsv3.UpstreamTlsContext{}
	if err := c.GetTransportSocket().GetTypedConfig().UnmarshalTo(got); err != nil {
		t.Fatal(err)
	}
	if got.Sni != webHost || len(c.TransportSocketMatches) > 0 || len(got.CommonTlsContext.TlsCertificateSdsSecretConfigs) > 0 {
		t.Errorf("got %s", protojson.Format(c))
	}
}
