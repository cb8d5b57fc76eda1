package compile

import (
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

	for _, s := range gw.Servers {
		server := model.GatewayServer{
			Port:            uint16(s.GetPort().GetNumber()),
			Mode:            serverMode(s),
			RedirectToHTTPS: s.GetTls().GetHttpsRedirect(),
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
	case s.GetTls().GetMode() == networking.ServerTLSSettings_PASSTHROUGH:
		return model.PassToServices
	}
	return model.PassMesh
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
