package compile

import (
	"strings"

	"github.com/isthmus-mesh/isthmus/model"
)

// serverFirst are ports on which, by custom, the server speaks first: waiting
// for the client's bytes there would only add a delay.
func serverFirst(port int32) bool {
	return port == 25 || port == 3306 || port == 27017
}

// Protocol chooses what a port of a Kubernetes service speaks: by its
// appProtocol, else by its name up to the first dash, else by the port number,
// else unknown.
func Protocol(name string, appProtocol *string, port int32) model.Protocol {
	if appProtocol != nil {
		if p, ok := declared(*appProtocol); ok {
			return p
		}
	}

	lower := strings.ToLower(name)
	if lower == "grpc-web" || strings.HasPrefix(lower, "grpc-web-") {
		return model.GRPCWeb
	}

	prefix, _, _ := strings.Cut(lower, "-")
	if p, ok := declared(prefix); ok {
		return p
	}
	if serverFirst(port) {
		return model.TCP
	}
	return model.Unknown
}

// declared maps a protocol's name as people write it.
func declared(name string) (model.Protocol, bool) {
	switch strings.ToLower(name) {
	case "http", "kubernetes.io/ws":
		return model.HTTP, true
	case "http2", "h2c", "kubernetes.io/h2c":
		return model.HTTP2, true
	case "grpc":
		return model.GRPC, true
	case "grpc-web":
		return model.GRPCWeb, true
	case "https", "tls", "kubernetes.io/wss":
		return model.TLS, true
	case "tcp", "mongo", "mysql", "redis":
		return model.TCP, true
	}
	return model.Unknown, false
}
