package api

import (
	"path"

	networking "istio.io/api/networking/v1alpha3"
	"k8s.io/apimachinery/pkg/util/validation"
)

// clientTLSFields are those of a policy's tls.
var clientTLSFields = fieldSet{
	"mode": nil, "sni": nil, "subjectAltNames": nil, "insecureSkipVerify": nil,
	"caCertificates": nil, "clientCertificate": nil, "privateKey": nil,
}

func validateClientTLS(p *problems, at string, tls *networking.ClientTLSSettings) {
	if tls == nil {
		return
	}

	switch tls.Mode {
	case networking.ClientTLSSettings_DISABLE:
		// Istio takes sni beside DISABLE, without effect: Warnings says so.
		// Names that a server is to prove are another matter: whoever lists
		// them counts on their being checked.
		if len(tls.SubjectAltNames) > 0 {
			p.addf(at+".subjectAltNames", "cannot be checked with mode DISABLE; remove them, or set mode ISTIO_MUTUAL or SIMPLE")
		}
		p.refuseOwnTLS(at, tls)
	case networking.ClientTLSSettings_ISTIO_MUTUAL:
		p.refuseOwnTLS(at, tls)
	case networking.ClientTLSSettings_SIMPLE:
		p.checkOwnTLS(at, tls)
		if tls.ClientCertificate != "" || tls.PrivateKey != "" {
			p.addf(at+".clientCertificate", "is not shown with mode SIMPLE; set mode MUTUAL, or remove it with privateKey")
		}
	case networking.ClientTLSSettings_MUTUAL:
		p.checkOwnTLS(at, tls)
		p.checkPath(at+".clientCertificate", tls.ClientCertificate)
		p.checkPath(at+".privateKey", tls.PrivateKey)
	default:
		p.addf(at+".mode", "%s is not known; set SIMPLE, MUTUAL, ISTIO_MUTUAL or DISABLE (leave tls out for automatic mutual TLS)", tls.Mode)
	}

	for i, san := range tls.SubjectAltNames {
		if san == "" {
			p.addf(indexed(at+".subjectAltNames", i), "is empty; give a name, or a SPIFFE id")
		}
	}
}

// refuseOwnTLS notes what has no place where the mesh's own TLS is spoken, or none.
func (p *problems) refuseOwnTLS(at string, tls *networking.ClientTLSSettings) {
	for _, f := range []struct {
		name  string
		given bool
	}{
		{"insecureSkipVerify", tls.InsecureSkipVerify.GetValue()},
		{"caCertificates", tls.CaCertificates != ""},
		{"clientCertificate", tls.ClientCertificate != ""},
		{"privateKey", tls.PrivateKey != ""},
	} {
		if f.given {
			p.addf(at+"."+f.name, "does not count with mode %s; remove it, or set mode SIMPLE or MUTUAL", tls.Mode)
		}
	}
}

// checkOwnTLS notes what is wrong with TLS to servers that are not of the mesh.
func (p *problems) checkOwnTLS(at string, tls *networking.ClientTLSSettings) {
	if tls.Sni != "" && len(validation.IsDNS1123Subdomain(tls.Sni)) > 0 {
		p.addf(at+".sni", "%q is no host name in lower case", tls.Sni)
	}
	if tls.CaCertificates != "" {
		p.checkPath(at+".caCertificates", tls.CaCertificates)
	}

	if !tls.InsecureSkipVerify.GetValue() {
		return
	}
	// Whoever lists them counts on their being checked.
	if tls.CaCertificates != "" {
		p.addf(at+".caCertificates", "are not asked with insecureSkipVerify: true; remove one of them")
	}
	if len(tls.SubjectAltNames) > 0 {
		p.addf(at+".subjectAltNames", "are not checked with insecureSkipVerify: true; remove one of them")
	}
}

// checkPath notes what is no path of a file in the proxy's container.
func (p *problems) checkPath(at, file string) {
	switch {
	case file == "":
		p.addf(at, "is missing; give the path of the file in the container istio-proxy")
	case !path.IsAbs(file):
		p.addf(at, "%q is no absolute path", file)
	}
}
