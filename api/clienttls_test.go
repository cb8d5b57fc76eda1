package api

import (
	"strings"
	"testing"
)

// TestClientTLS: what a policy's tls may say.
func TestClientTLS(t *testing.T) {
	for name, c := range map[string]struct {
		tls  string
		want string // "": it is taken
	}{
		"simple":        {`{mode: SIMPLE}`, ""},
		"simple, whole": {`{mode: SIMPLE, sni: a.example, subjectAltNames: [b.example], caCertificates: /etc/ca.pem}`, ""},
		"unverified":    {`{mode: SIMPLE, insecureSkipVerify: true}`, ""},
		"mutual":        {`{mode: MUTUAL, clientCertificate: /etc/tls.crt, privateKey: /etc/tls.key}`, ""},
		"mutual, whole": {`{mode: MUTUAL, clientCertificate: /etc/tls.crt, privateKey: /etc/tls.key, caCertificates: /etc/ca.pem, sni: a.example}`, ""},
		"the mesh's":    {`{mode: ISTIO_MUTUAL, sni: a.example, subjectAltNames: ["spiffe://a/ns/b/sa/c"]}`, ""},
		"off":           {`{mode: DISABLE}`, ""},

		"simple, with a certificate":  {`{mode: SIMPLE, clientCertificate: /etc/tls.crt}`, "tls.clientCertificate: is not shown with mode SIMPLE"},
		"mutual, without":             {`{mode: MUTUAL, privateKey: /etc/tls.key}`, "tls.clientCertificate: is missing"},
		"mutual, without a key":       {`{mode: MUTUAL, clientCertificate: /etc/tls.crt}`, "tls.privateKey: is missing"},
		"a path from nowhere":         {`{mode: SIMPLE, caCertificates: ca.pem}`, `tls.caCertificates: "ca.pem" is no absolute path`},
		"a pattern for a server name": {`{mode: SIMPLE, sni: "*.example"}`, `tls.sni: "*.example" is no host name`},
		"names that nobody checks":    {`{mode: SIMPLE, insecureSkipVerify: true, subjectAltNames: [a.example]}`, "tls.subjectAltNames: are not checked with insecureSkipVerify"},
		"roots that nobody asks":      {`{mode: SIMPLE, insecureSkipVerify: true, caCertificates: /etc/ca.pem}`, "tls.caCertificates: are not asked with insecureSkipVerify"},
		"no name":                     {`{mode: SIMPLE, subjectAltNames: [""]}`, "tls.subjectAltNames[0]: is empty"},
		"the mesh's, with roots":      {`{mode: ISTIO_MUTUAL, caCertificates: /etc/ca.pem}`, "tls.caCertificates: does not count with mode ISTIO_MUTUAL"},
		"the mesh's, unverified":      {`{mode: ISTIO_MUTUAL, insecureSkipVerify: true}`, "tls.insecureSkipVerify: does not count with mode ISTIO_MUTUAL"},
		"off, with a certificate":     {`{mode: DISABLE, clientCertificate: /etc/tls.crt, privateKey: /etc/tls.key}`, "tls.privateKey: does not count with mode DISABLE"},
		"off, with names":             {`{mode: DISABLE, subjectAltNames: [a.example]}`, "tls.subjectAltNames: cannot be checked with mode DISABLE"},
		"a Secret":                    {`{mode: SIMPLE, credentialName: a}`, "tls.credentialName: is not honoured yet"},
		"a list of the revoked":       {`{mode: SIMPLE, caCrl: /etc/crl.pem}`, "tls.caCrl: is not honoured yet"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decodeYAML(t, ruleHead+`{host: a.b, trafficPolicy: {tls: `+c.tls+`}}`)
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), "spec.trafficPolicy."+c.want)):
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}
