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
	// PassToServices passes any TLS through, to the Services that Hosts names: to
	// their port of the number Port.
	PassToServices
	// ServeHTTP routes requests by the VirtualServices that name the Gateway.
	ServeHTTP
	// ServeHTTPS ends TLS first, as ServerTLS says.
	ServeHTTPS
)

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
	// Credential is the Secret, in the gateway pod's namespace, with the certificate.
	Credential string
	Client     ClientCert
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
	TLS  ServerTLS // with ServeHTTPS
	// Hosts are the names accepted: exact, *.suffix or *. With NAMESPACE/
	// before it, a name is accepted only for services of that namespace, or, with
	// ServeHTTP, only where VirtualServices of that namespace route it.
	Hosts []string
	// RedirectToHTTPS answers every request for Hosts by sending its client to the
	// same address over HTTPS.
	RedirectToHTTPS bool
}

// CommonHosts are the hosts of a VirtualService that the server opens to it.
func (s *GatewayServer) CommonHosts(v *VirtualService) []string {
	var out []string
	for _, h := range s.Hosts {
		namespace, pattern, limited := strings.Cut(h, "/")
		if !limited {
			pattern = h
		} else if namespace != v.Namespace {
			continue
		}
		for _, host := range v.Hosts {
			if common, ok := CommonHost(pattern, host); ok && !slices.Contains(out, common) {
				out = append(out, common)
			}
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
