package api

import (
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"k8s.io/apimachinery/pkg/util/validation"
)

var gatewayFields = fieldSet{
	"selector": nil,
	"servers": {
		"port":  {"number": nil, "protocol": nil, "name": nil},
		"hosts": nil,
		"name":  nil,
		"tls":   {"mode": nil, "httpsRedirect": nil, "credentialName": nil, "minProtocolVersion": nil, "maxProtocolVersion": nil, "subjectAltNames": nil},
	},
}

func validateGateway(p *problems, gw *networking.Gateway) {
	p.checkLabels("spec.selector", gw.Selector)
	if len(gw.Servers) == 0 {
		p.addf("spec.servers", "is empty; list at least one port")
	}
	names := map[string]bool{}
	for i, s := range gw.Servers {
		at := indexed("spec.servers", i)
		validateServer(p, at, s)
		if name := s.GetPort().GetName(); name != "" {
			if names[name] {
				p.addf(at+".port.name", "%q is listed twice; name each port of a Gateway differently", name)
			}
			names[name] = true
		}
	}
}

// PlainHTTP tells whether a server of a Gateway routes requests that come without TLS.
func PlainHTTP(s *networking.Server) bool {
	switch strings.ToUpper(s.GetPort().GetProtocol()) {
	case "HTTP", "HTTP2", "GRPC", "GRPC-WEB":
		return true
	}
	return false
}

// PlainTCP tells whether a server of a Gateway leads connections on as they come.
func PlainTCP(s *networking.Server) bool {
	switch strings.ToUpper(s.GetPort().GetProtocol()) {
	case "TCP", "MONGO":
		return true
	}
	return false
}

func validateServer(p *problems, path string, s *networking.Server) {
	if s.Port == nil {
		p.addf(path+".port", "is missing; give number, name and protocol")
	} else {
		p.checkServerPort(path+".port.number", s.Port.Number)
		if s.Port.Name != "" {
			p.checkPortName(path+".port.name", s.Port.Name)
		}
	}

	switch {
	case PlainHTTP(s):
		validatePlainServer(p, path, s)
	case PlainTCP(s):
		if s.Tls != nil {
			p.addf(path+".tls", "has no place beside port.protocol %s, which is plaintext; remove it, or set port.protocol TLS", s.Port.Protocol)
		}
	case EndsTLS(s):
		validateEndingServer(p, path, s)
	default:
		validatePassingServer(p, path, s)
	}
	validateServerHosts(p, path, s)
}

// validatePlainServer looks at a server for HTTP without TLS.
func validatePlainServer(p *problems, path string, s *networking.Server) {
	if tls := s.Tls; tls != nil && (tls.Mode != networking.ServerTLSSettings_PASSTHROUGH || !tls.HttpsRedirect) {
		p.addf(path+".tls", "has no place beside port.protocol %s, which is plaintext, but for httpsRedirect: true; remove it", s.Port.Protocol)
	}
	checkNoTLSEnd(p, path+".tls", s.Tls)
}

// caCertSuffix ends the name of a Secret with roots for the certificate in the Secret
// without it (ServerTLSSettings.credential_name).
const caCertSuffix = "-cacert"

// EndsTLS tells whether a server of a Gateway ends TLS, and routes the requests in it
// (HTTPS) or leads on what comes out of it (TLS).
func EndsTLS(s *networking.Server) bool {
	switch s.GetTls().GetMode() {
	case networking.ServerTLSSettings_SIMPLE, networking.ServerTLSSettings_MUTUAL, networking.ServerTLSSettings_OPTIONAL_MUTUAL,
		networking.ServerTLSSettings_ISTIO_MUTUAL:
		proto := strings.ToUpper(s.GetPort().GetProtocol())
		return proto == "HTTPS" || proto == "TLS"
	}
	return false
}

// validateEndingServer looks at a server that ends TLS.
func validateEndingServer(p *problems, path string, s *networking.Server) {
	tls := s.Tls
	path += ".tls"
	for i, name := range tls.SubjectAltNames {
		switch {
		case tls.Mode == networking.ServerTLSSettings_SIMPLE:
			p.addf(path+".subjectAltNames", "changes nothing with mode SIMPLE, which asks clients for no certificate; set MUTUAL or ISTIO_MUTUAL")
		case name == "":
			p.addf(indexed(path+".subjectAltNames", i), "is empty; give the name that a client's certificate must have")
		}
	}
	if tls.Mode == networking.ServerTLSSettings_ISTIO_MUTUAL {
		checkNoTLSEnd(p, path, tls)
		if tls.HttpsRedirect {
			p.addf(path+".httpsRedirect", "changes nothing here; set it on the server with port.protocol HTTP")
		}
		return
	}
	switch {
	case tls.CredentialName == "":
		p.addf(path+".credentialName", "is missing; name a Secret with tls.crt and tls.key in the namespace of the gateway's pods")
	case len(validation.IsDNS1123Subdomain(tls.CredentialName)) > 0:
		p.addf(path+".credentialName", "%q is no name of a Secret; give that of one in the namespace of the gateway's pods, without the namespace", tls.CredentialName)
	case strings.HasSuffix(tls.CredentialName, caCertSuffix):
		p.addf(path+".credentialName", "%q: a name that ends with %s is that of the roots for clients; name the Secret with the certificate, without it", tls.CredentialName, caCertSuffix)
	}
	if tls.HttpsRedirect {
		p.addf(path+".httpsRedirect", "changes nothing here; set it on the server with port.protocol HTTP")
	}

	least, most := tls.MinProtocolVersion, tls.MaxProtocolVersion
	for _, v := range []struct {
		field   string
		version networking.ServerTLSSettings_TLSProtocol
	}{{".minProtocolVersion", least}, {".maxProtocolVersion", most}} {
		switch v.version {
		case networking.ServerTLSSettings_TLSV1_0, networking.ServerTLSSettings_TLSV1_1:
			p.addf(path+v.field, "%s is not spoken any more (RFC 8996); set TLSV1_2 or TLSV1_3", v.version)
		}
	}
	if most != networking.ServerTLSSettings_TLS_AUTO && least > most {
		p.addf(path+".minProtocolVersion", "%s is above maxProtocolVersion %s", least, most)
	}
}

// checkNoTLSEnd notes what has a meaning only where TLS ends.
func checkNoTLSEnd(p *problems, path string, tls *networking.ServerTLSSettings) {
	if tls.GetCredentialName() != "" {
		p.addf(path+".credentialName", "changes nothing here; it is for port.protocol HTTPS or TLS with mode SIMPLE, MUTUAL or OPTIONAL_MUTUAL")
	}
	if len(tls.GetSubjectAltNames()) > 0 && tls.GetMode() != networking.ServerTLSSettings_ISTIO_MUTUAL {
		p.addf(path+".subjectAltNames", "changes nothing here; it is for mode MUTUAL, OPTIONAL_MUTUAL or ISTIO_MUTUAL")
	}
	if tls.GetMinProtocolVersion() != 0 || tls.GetMaxProtocolVersion() != 0 {
		p.addf(path, "minProtocolVersion and maxProtocolVersion change nothing here; they are for mode SIMPLE, MUTUAL or OPTIONAL_MUTUAL")
	}
}

// validatePassingServer looks at a server that passes TLS through.
func validatePassingServer(p *problems, path string, s *networking.Server) {
	switch proto := strings.ToUpper(s.GetPort().GetProtocol()); proto {
	case "TLS", "HTTPS":
	default:
		p.addf(path+".port.protocol", "%q is none of HTTP, HTTP2, GRPC and HTTPS, which route requests, TCP, which leads connections on, and TLS, which with tls.mode AUTO_PASSTHROUGH or PASSTHROUGH passes TLS through by its server name", s.GetPort().GetProtocol())
		return
	}
	checkNoTLSEnd(p, path+".tls", s.Tls)
	if s.GetTls().GetHttpsRedirect() {
		p.addf(path+".tls.httpsRedirect", "changes nothing here; set it on the server with port.protocol HTTP")
	}

	switch mode := s.GetTls().GetMode(); {
	case s.Tls == nil:
		p.addf(path+".tls", "is missing; set mode SIMPLE and credentialName, or mode PASSTHROUGH, AUTO_PASSTHROUGH or ISTIO_MUTUAL")
	case mode == networking.ServerTLSSettings_AUTO_PASSTHROUGH, mode == networking.ServerTLSSettings_PASSTHROUGH:
	default:
		p.addf(path+".tls.mode", "%s is not known; set SIMPLE, MUTUAL, OPTIONAL_MUTUAL, ISTIO_MUTUAL, PASSTHROUGH or AUTO_PASSTHROUGH", mode)
	}
}

func validateServerHosts(p *problems, path string, s *networking.Server) {
	if len(s.Hosts) == 0 {
		p.addf(path+".hosts", "is empty; list the hosts that may pass, for instance \"*.global\"")
	}
	for i, h := range s.Hosts {
		at := indexed(path+".hosts", i)
		namespace, host, ok := strings.Cut(h, "/")
		if !ok {
			namespace, host = "*", h
		}
		if namespace != "*" && namespace != "." {
			if problems := validation.IsDNS1123Label(namespace); len(problems) > 0 {
				p.addf(at, "%q is none of \".\", \"*\" and no namespace: %s", namespace, problems[0])
			}
		}

		p.checkHost(at, host, true)
		if strings.HasPrefix(host, "*") && host != "*" && !strings.HasPrefix(host, "*.") && !PlainHTTP(s) && !PlainTCP(s) {
			p.addf(at, "%q: in a server name \"*\" stands for whole labels; give *.suffix", host)
		}
	}
}
