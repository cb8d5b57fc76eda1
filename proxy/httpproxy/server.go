package httpproxy

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"time"

	nethttp2 "golang.org/x/net/http2"

	"github.com/isthmus-mesh/isthmus/proxy/access"
	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
	"github.com/isthmus-mesh/isthmus/proxy/http1"
	"github.com/isthmus-mesh/isthmus/proxy/http2"
	"github.com/isthmus-mesh/isthmus/proxy/jwt"
	"github.com/isthmus-mesh/isthmus/proxy/routes"
	"github.com/isthmus-mesh/isthmus/proxy/telemetry"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
	"github.com/isthmus-mesh/isthmus/xds"
)

// Config is what a Server needs. All fields are required.
type Config struct {
	Clusters  *upstream.Set
	Routes    routes.Provider
	Telemetry *telemetry.Telemetry
	Logger    *slog.Logger
}

// Server makes Handlers. What connections share, buffers, drain groups and the bound on held bodies, lives here.
type Server struct {
	cfg    Config
	bulk   http1.BulkPool
	held   *http2.Held
	drains drainGroups

	mirrors mirrors
}

// New returns a Server.
func New(cfg Config) (*Server, error) {
	if cfg.Clusters == nil || cfg.Routes == nil || cfg.Telemetry == nil || cfg.Logger == nil {
		return nil, errors.New("httpproxy: Clusters, Routes, Telemetry and Logger must all be given")
	}
	s := &Server{cfg: cfg, held: http2.NewHeld()}
	s.drains.groups = map[<-chan struct{}]*drainGroup{}
	s.mirrors.begin(s, mirrorPatience)
	return s, nil
}

// Handler serves connections by one HTTP connection manager. It is safe for concurrent use.
type Handler struct {
	server *Server
	hcm    *config.HCM
	access *access.Policy          // nil lets everybody pass
	tokens *jwt.Verifier           // nil looks at none
	next   atomic.Pointer[Handler] // took the place of this one; nil while it is in force
	routes *routes.Slot
	log    *telemetry.AccessLog // nil when no access log is asked for
}

// Handler compiles an HTTP connection manager. An error means that it cannot be honoured as it stands.
func (s *Server) Handler(hcm *config.HCM) (*Handler, error) {
	h := &Handler{server: s, hcm: hcm, access: access.Compile(hcm.Access, s.cfg.Telemetry.HTTPAccess), tokens: jwt.New(hcm.Tokens)}
	if hcm.Routes != nil {
		h.routes = routes.Inline(hcm.Routes, s.cfg.Clusters)
	} else {
		h.routes = s.cfg.Routes.Route(hcm.RouteName)
	}
	log, err := s.cfg.Telemetry.AccessLog(hcm.AccessLogs)
	if err != nil {
		return nil, fmt.Errorf("access_log: %w", err)
	}
	h.log = log
	return h, nil
}

// ServeConn serves conn until it is done. The caller closes conn after it returns. When info.Drain is closed the
// connection ends at the next good moment: after the next HTTP/1 response, or once the HTTP/2 streams are done.
func (h *Handler) ServeConn(conn net.Conn, info *downstream.Info) {
	if h.protocol(info) == config.ProtocolHTTP2 {
		h.serveH2(conn, info)
		return
	}
	s := newSession(h, conn, info)
	defer s.end()
	if h.hcm.Codec == config.CodecAuto && info.Protocol == config.ProtocolUnknown && s.hasPreface() {
		s.setDeadline(time.Time{})
		h.serveH2(&prefixedConn{Conn: conn, in: &s.in}, info)
		return
	}
	s.serve()
}

// protocol tells what the downstream speaks, as far as is known before the first byte.
func (h *Handler) protocol(info *downstream.Info) config.Protocol {
	switch {
	case h.hcm.Codec == config.CodecHTTP1:
		return config.ProtocolHTTP1
	case h.hcm.Codec == config.CodecHTTP2:
		return config.ProtocolHTTP2
	case info.TLS != nil && slices.Contains([]string{"h2", xds.ALPNHTTP2}, info.TLS.ALPN):
		return config.ProtocolHTTP2
	case info.TLS != nil && slices.Contains([]string{"http/1.1", "http/1.0", xds.ALPNHTTP11, xds.ALPNHTTP10}, info.TLS.ALPN):
		return config.ProtocolHTTP1
	}
	return info.Protocol
}

// upstreamProtocol tells what to speak to a cluster for a request that came in as down.
func upstreamProtocol(c *upstream.Cluster, down config.Protocol) config.Protocol {
	switch c.Config().HTTP.Protocol {
	case config.HTTP2:
		return config.ProtocolHTTP2
	case config.HTTPUseDownstream:
		return down
	}
	return config.ProtocolHTTP1
}

// hasPreface reads until it is clear whether the connection starts with the HTTP/2 preface (RFC 9113 section 3.4).
func (s *session) hasPreface() bool {
	s.setDeadline(s.now.Add(s.firstWait()))
	for begun := false; ; {
		p := s.in.Buffered()
		n := min(len(p), len(nethttp2.ClientPreface))
		if string(p[:n]) != nethttp2.ClientPreface[:n] {
			return false
		}
		if n == len(nethttp2.ClientPreface) {
			return true
		}
		if n > 0 && !begun {
			begun = true
			s.headStarted()
		}
		if s.in.Fill() != nil {
			return false
		}
	}
}

// prefixedConn reads what was buffered before the connection itself.
type prefixedConn struct {
	net.Conn
	in *http1.Reader
}

func (c *prefixedConn) Read(p []byte) (int, error) { return c.in.Read(p) }
