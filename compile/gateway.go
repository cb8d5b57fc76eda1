package compile

import (
	"cmp"
	"crypto/tls"
	"strconv"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/model"
)

// Gateway makes the row of a valid Gateway.
func Gateway(c model.ClusterID, obj *api.Object) *model.Gateway {
	gw := obj.Spec.(*networking.Gateway)
	row := &model.Gateway{
		Cluster:   c,
		Namespace: obj.Namespace,
		Name:      obj.Name,
		Created:   obj.Created,
		Selector:  gw.Selector,
	}

	for i, s := range gw.Servers {
		server := model.GatewayServer{
			Port:            uint16(s.GetPort().GetNumber()),
			Name:            cmp.Or(s.GetPort().GetName(), strconv.Itoa(i)),
			Mode:            serverMode(s),
			RedirectToHTTPS: s.GetTls().GetHttpsRedirect(),
		}
		if server.Mode.EndsTLS() {
			server.TLS = serverTLS(s.Tls)
		}
		for _, h := range s.Hosts {
			server.Hosts = append(server.Hosts, gatewayHost(h, obj.Namespace))
		}
		row.Servers = append(row.Servers, server)
	}
	return row
}

func serverMode(s *networking.Server) model.ServerMode {
	switch {
	case api.PlainHTTP(s):
		return model.ServeHTTP
	case api.PlainTCP(s):
		return model.ServeTCP
	case api.EndsTLS(s) && strings.EqualFold(s.GetPort().GetProtocol(), "HTTPS"):
		return model.ServeHTTPS
	case api.EndsTLS(s):
		return model.ServeTLS
	case s.GetTls().GetMode() == networking.ServerTLSSettings_PASSTHROUGH:
		return model.PassTLS
	}
	return model.PassMesh
}

func serverTLS(t *networking.ServerTLSSettings) model.ServerTLS {
	versions := map[networking.ServerTLSSettings_TLSProtocol]uint16{
		networking.ServerTLSSettings_TLSV1_2: tls.VersionTLS12, networking.ServerTLSSettings_TLSV1_3: tls.VersionTLS13,
	}
	out := model.ServerTLS{
		Mesh:       t.Mode == networking.ServerTLSSettings_ISTIO_MUTUAL,
		Credential: t.CredentialName,
		Names:      t.SubjectAltNames,
		MinVersion: versions[t.MinProtocolVersion], MaxVersion: versions[t.MaxProtocolVersion],
	}
	switch t.Mode {
	case networking.ServerTLSSettings_MUTUAL:
		out.Client = model.ClientCertRequired
	case networking.ServerTLSSettings_OPTIONAL_MUTUAL:
		out.Client = model.ClientCertOptional
	}
	return out
}

// gatewayHost resolves the namespace before a host of a Gateway's server: "./"
// is the Gateway's own, "*/" any, as none is.
func gatewayHost(h, own string) string {
	namespace, host, ok := strings.Cut(h, "/")
	switch {
	case !ok:
		return api.PlainHost(h)
	case namespace == "*":
		return api.PlainHost(host)
	case namespace == ".":
		namespace = own
	}
	return namespace + "/" + api.PlainHost(host)
}
