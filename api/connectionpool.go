package api

import (
	"math"
	"time"

	networking "istio.io/api/networking/v1alpha3"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// connectionPoolFields are those of a connectionPool.
var connectionPoolFields = fieldSet{
	"tcp": {
		"maxConnections": nil, "connectTimeout": nil, "tcpKeepalive": keepaliveFields,
		"maxConnectionDuration": nil, "idleTimeout": nil,
	},
	"http": {
		"http1MaxPendingRequests": nil, "http2MaxRequests": nil, "maxRequestsPerConnection": nil,
		"maxRetries": nil, "idleTimeout": nil, "h2UpgradePolicy": nil, "useClientProtocol": nil,
		"maxConcurrentStreams": nil, "http2KeepAlive": {"interval": nil, "timeout": nil},
	},
}

var keepaliveFields = fieldSet{"probes": nil, "time": nil, "interval": nil}

// Bounds that an operating system or a protocol sets.
const (
	maxKeepaliveProbes   = 127              // tcp(7), TCP_KEEPCNT
	maxKeepaliveTime     = math.MaxInt16    // seconds; tcp(7), TCP_KEEPIDLE and TCP_KEEPINTVL
	maxRequestsEver      = 1 << 29          // Istio, maxRequestsPerConnection
	shortestKeepalive    = time.Second      // what the kernel counts in
	shortestConfigurable = time.Millisecond // what Envoy counts in
)

func validateConnectionPool(p *problems, path string, c *networking.ConnectionPoolSettings) {
	if c == nil {
		return
	}
	if proto.Size(c) == 0 {
		p.addf(path, "is empty; set tcp or http, or remove it")
	}

	if tcp := c.Tcp; tcp != nil {
		at := path + ".tcp"
		p.checkCount(at+".maxConnections", tcp.MaxConnections)
		p.checkDuration(at+".connectTimeout", tcp.ConnectTimeout, shortestConfigurable)
		p.checkDuration(at+".maxConnectionDuration", tcp.MaxConnectionDuration, shortestConfigurable)
		// 0s: connections stay however long nothing moves on them.
		p.checkDuration(at+".idleTimeout", tcp.IdleTimeout, 0)
		validateKeepalive(p, at+".tcpKeepalive", tcp.TcpKeepalive)
	}
	if c.Http != nil {
		validateHTTPPool(p, path+".http", c.Http)
	}
}

func validateHTTPPool(p *problems, path string, h *networking.ConnectionPoolSettings_HTTPSettings) {
	p.checkCount(path+".http1MaxPendingRequests", h.Http1MaxPendingRequests)
	p.checkCount(path+".http2MaxRequests", h.Http2MaxRequests)
	p.checkCount(path+".maxRetries", h.MaxRetries)
	p.checkCount(path+".maxConcurrentStreams", h.MaxConcurrentStreams)
	p.checkCount(path+".maxRequestsPerConnection", h.MaxRequestsPerConnection)
	if h.MaxRequestsPerConnection > maxRequestsEver {
		p.addf(path+".maxRequestsPerConnection", "%d is too many; set %d or less, or remove it for no limit", h.MaxRequestsPerConnection, maxRequestsEver)
	}
	p.checkDuration(path+".idleTimeout", h.IdleTimeout, shortestConfigurable)

	// A server's sidecar speaks to its application in the version that it is
	// spoken to in, so one that knows HTTP/1.1 alone would be sent HTTP/2.
	if h.H2UpgradePolicy == networking.ConnectionPoolSettings_HTTPSettings_UPGRADE {
		p.addf(path+".h2UpgradePolicy", "UPGRADE is not honoured: an application is spoken to in the HTTP version of its caller; where it takes HTTP/2, say so with the port's name or appProtocol (http2, grpc)")
	}
	if k := h.Http2KeepAlive; k != nil {
		validatePing(p, path+".http2KeepAlive", k)
	}
}

func validatePing(p *problems, path string, k *networking.ConnectionPoolSettings_HTTPSettings_ConnectionKeepalive) {
	for _, d := range []struct {
		name  string
		value *durationpb.Duration
	}{
		{".interval", k.Interval},
		{".timeout", k.Timeout},
	} {
		if d.value == nil {
			p.addf(path+d.name, "is missing; http2KeepAlive needs an interval and a timeout")
		}
		p.checkDuration(path+d.name, d.value, shortestConfigurable)
	}
}

// validateKeepalive checks what the kernel is told about a socket: it counts in
// whole seconds, and refuses what is out of its range when a connection is opened,
// which is too late.
func validateKeepalive(p *problems, path string, k *networking.ConnectionPoolSettings_TCPSettings_TcpKeepalive) {
	if k == nil {
		return
	}
	if k.Probes > maxKeepaliveProbes {
		p.addf(path+".probes", "%d is too many; set %d or less", k.Probes, maxKeepaliveProbes)
	}

	for _, d := range []struct {
		name  string
		value *durationpb.Duration
	}{
		{".time", k.Time},
		{".interval", k.Interval},
	} {
		p.checkDuration(path+d.name, d.value, shortestKeepalive)
		switch {
		case d.value.AsDuration()%time.Second != 0:
			p.addf(path+d.name, "%v: the kernel counts whole seconds; round it", d.value.AsDuration())
		case d.value.GetSeconds() > maxKeepaliveTime:
			p.addf(path+d.name, "%v is too long; set %ds or less", d.value.AsDuration(), maxKeepaliveTime)
		}
	}
}
