package model

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Gateway is one object of that kind.
type Gateway struct {
	Cluster   ClusterID
	Namespace string
	Name      string
	Created   time.Time
	// Selector selects gateway pods in any namespace.
	Selector map[string]string
	Servers  []GatewayServer
}

// ServerMode is what a server of a Gateway does with what reaches it.
type ServerMode uint8

// The modes.
const (
	// PassMesh passes the mesh's own mutual TLS through, to whatever service its
	// server name stands for (AUTO_PASSTHROUGH).
	PassMesh ServerMode = iota
	// PassTLS passes any TLS through, as the tls routes of VirtualServices say that name
	// the Gateway, and else to the Services that Hosts names: to their port of the
	// number Port.
	PassTLS
	// ServeHTTP routes requests by the VirtualServices that name the Gateway.
	ServeHTTP
	// ServeHTTPS ends TLS first, as ServerTLS says.
	ServeHTTPS
	// ServeTCP leads connections as tcp routes say.
	ServeTCP
	// ServeTLS ends TLS first.
	ServeTLS
)

// EndsTLS tells whether ServerTLS says how.
func (m ServerMode) EndsTLS() bool { return m == ServeHTTPS || m == ServeTLS }

// ByServerName tells whether servers of a port are told apart by what clients of TLS ask for.
func (m ServerMode) ByServerName() bool { return m.EndsTLS() || m == PassTLS }

// Takes are the routes of connections that the mode takes of a VirtualService.
func (m ServerMode) Takes(v *VirtualService) []ConnectionRoute {
	switch m {
	case PassTLS:
		return v.TLS
	case ServeTCP, ServeTLS:
		return v.TCP
	}
	return nil
}

// RoutesRequests tells whether VirtualServices say what becomes of what comes.
func (m ServerMode) RoutesRequests() bool { return m == ServeHTTP || m == ServeHTTPS }

// ClientCert is whether clients show certificates.
type ClientCert uint8

// What is asked of clients. One that is shown is always verified.
const (
	ClientCertNone ClientCert = iota
	ClientCertOptional
	ClientCertRequired
)

// ServerTLS is how a server ends TLS.
type ServerTLS struct {
	// Mesh tells that it is the mesh's own mutual TLS (ISTIO_MUTUAL): the gateway shows
	// its own certificate, and takes clients of the mesh. Nothing else is set then but Names.
	Mesh bool
	// Credential is the Secret, in the gateway pod's namespace, with the certificate.
	Credential string
	Client     ClientCert
	// Names are those of which a client's certificate must have one (subjectAltNames);
	// none: any.
	Names []string
	// MinVersion and MaxVersion are of TLS, as in crypto/tls; 0 leaves them to the
	// proxy: 1.2 at least.
	MinVersion, MaxVersion uint16
}

// GatewayServer is a port of a Gateway.
type GatewayServer struct {
	Port uint16
	Mode ServerMode
	// Name is the port's, or one made of its place: no two of a Gateway share it.
	Name string
	TLS  ServerTLS // with ServeHTTPS and ServeTLS
	// Hosts are the names accepted: exact, *.suffix or *. With NAMESPACE/
	// before it, a name is accepted only for services of that namespace, or, where
	// VirtualServices say what becomes of it, only where those of that namespace do.
	Hosts []string
	// RedirectToHTTPS answers every request for Hosts by sending its client to the
	// same address over HTTPS.
	RedirectToHTTPS bool
}

// CommonHosts are the hosts of a VirtualService that the server opens to it.
func (s *GatewayServer) CommonHosts(v *VirtualService) []string {
	var out []string
	for _, pattern := range s.Patterns(v.Namespace) {
		for _, host := range v.Hosts {
			if common, ok := CommonHost(pattern, host); ok && !slices.Contains(out, common) {
				out = append(out, common)
			}
		}
	}
	return out
}

// Patterns are the server's hosts for VirtualServices of a namespace, without a namespace.
func (s *GatewayServer) Patterns(namespace string) []string {
	var out []string
	for _, h := range s.Hosts {
		only, pattern, limited := strings.Cut(h, "/")
		switch {
		case !limited:
			out = append(out, h)
		case only == namespace:
			out = append(out, pattern)
		}
	}
	return out
}

// CompareAge orders by the object's creation, which nobody can choose, then by key: the
// older has what two of them want and cannot share.
func (g *Gateway) CompareAge(other *Gateway) int {
	return cmp.Or(g.Created.Compare(other.Created), cmp.Compare(g.Key(), other.Key()))
}

// QualifiedName is how VirtualServices name the Gateway in full.
func (g *Gateway) QualifiedName() string { return g.Namespace + "/" + g.Name }

// Key is the primary key.
func (g *Gateway) Key() string { return key(string(g.Cluster), g.Namespace, g.Name) }

// ReadFrom is the cluster that the row was read from.
func (g *Gateway) ReadFrom() ClusterID { return g.Cluster }
