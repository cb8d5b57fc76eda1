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
		"tls":   {"mode": nil, "httpsRedirect": nil},
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

func validateServer(p *problems, path string, s *networking.Server) {
	if s.Port == nil {
		p.addf(path+".port", "is missing; give number, name and protocol")
	} else {
		p.checkServerPort(path+".port.number", s.Port.Number)
		if s.Port.Name != "" {
			p.checkPortName(path+".port.name", s.Port.Name)
		}
	}

	if PlainHTTP(s) {
		validatePlainServer(p, path, s)
	} else {
		validatePassingServer(p, path, s)
	}
	validateServerHosts(p, path, s)
}

// validatePlainServer looks at a server for HTTP without TLS.
func validatePlainServer(p *problems, path string, s *networking.Server) {
	if tls := s.Tls; tls != nil && (tls.Mode != networking.ServerTLSSettings_PASSTHROUGH || !tls.HttpsRedirect) {
		p.addf(path+".tls", "has no place beside port.protocol %s, which is plaintext, but for httpsRedirect: true; remove it", s.Port.Protocol)
	}
}

// validatePassingServer looks at a server that passes TLS through.
func validatePassingServer(p *problems, path string, s *networking.Server) {
	switch proto := strings.ToUpper(s.GetPort().GetProtocol()); proto {
	case "TLS", "HTTPS":
	case "TCP":
		p.addf(path+".port.protocol", "TCP is not honoured yet; set HTTP, HTTP2 or GRPC to route requests, or TLS to pass TLS through by its server name")
	default:
		p.addf(path+".port.protocol", "%q is none of HTTP, HTTP2, GRPC, which route requests, and TLS, which with tls.mode AUTO_PASSTHROUGH or PASSTHROUGH passes TLS through by its server name", s.GetPort().GetProtocol())
	}
	if s.GetTls().GetHttpsRedirect() {
		p.addf(path+".tls.httpsRedirect", "changes nothing here; set it on the server with port.protocol HTTP")
	}

	switch mode := s.GetTls().GetMode(); {
	case s.Tls != nil && mode == networking.ServerTLSSettings_AUTO_PASSTHROUGH:
	case s.Tls != nil && mode == networking.ServerTLSSettings_PASSTHROUGH:
		checkPassthrough(p, path+".hosts", s.Hosts)
	case s.Tls == nil:
		p.addf(path+".tls", "is missing; set mode AUTO_PASSTHROUGH, or PASSTHROUGH for single Services")
	default:
		p.addf(path+".tls.mode", "%s is not honoured yet; set AUTO_PASSTHROUGH, or PASSTHROUGH for single Services", mode)
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
		if strings.HasPrefix(host, "*") && host != "*" && !strings.HasPrefix(host, "*.") && !PlainHTTP(s) {
			p.addf(at, "%q: in a server name \"*\" stands for whole labels; give *.suffix", host)
		}
	}
}

// checkPassthrough refuses hosts of a server with the mode PASSTHROUGH that do not
// say themselves where they lead. In Istio a VirtualService with tls routes says that;
// without one here, a host is the Service that has the name.
func checkPassthrough(p *problems, path string, hosts []string) {
	for i, h := range hosts {
		label := strings.Split(PlainHost(h), ".")
		if strings.Contains(h, "/") || len(label) < 3 || label[2] != "svc" || strings.Contains(h, "*") {
			p.addf(indexed(path, i), "%q: with tls.mode PASSTHROUGH, a host is the full name of a Service, such as istiod.istio-system.svc.cluster.local, to whose port of the same number connections are passed on; tls routes of a VirtualService, which would lead them elsewhere, are not honoured yet", h)
		}
	}
}
