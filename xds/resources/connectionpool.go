package resources

import (
	"cmp"
	"math"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
)

const (
	// nearConnectTimeout is how long it may take to connect to an endpoint of the
	// mesh before another one is asked. The time covers TCP's handshake and that of
	// TLS 1.3, of one round trip each: two of 200 ms, which lie between places as
	// far from each other as there are, fit in, and with less they would not. A
	// first SYN that is lost is sent again after 1 s (RFC 6298), so that whatever
	// does not answer within this time will not do so for another half a second.
	nearConnectTimeout = 500 * time.Millisecond
	// farConnectTimeout is Istio's, for all that is not the mesh's own, and where
	// there is no other endpoint to ask.
	farConnectTimeout = 10 * time.Second
)

// connectTimeout is that of clusters that lead to one place only.
func connectTimeout(mesh *model.Mesh) time.Duration {
	return cmp.Or(mesh.ConnectTimeout, farConnectTimeout)
}

// connectTimeout is what the rule says, else the mesh, else what fits the
// endpoints.
func (b *clusterBuilder) connectTimeout(pool *model.ConnectionPool) time.Duration {
	set := b.mesh.ConnectTimeout
	if pool != nil {
		set = cmp.Or(pool.ConnectTimeout, set)
	}
	svc := b.port.svc
	switch {
	case set > 0:
		return set
	case svc.External, svc.Resolution == model.ByDestination:
		return farConnectTimeout
	}
	return nearConnectTimeout
}

// circuitBreakers are the limits of a cluster; nil where nothing is limited but by
// the proxy's own retry budget. Envoy has limits by default (1024 connections and
// so on): where it is given any, it is told that there are no others, as in Istio.
// Of retries nothing is said unless somebody does: a budget is then the proxy's to
// have.
func circuitBreakers(pol model.TrafficPolicy) *clusterv3.CircuitBreakers {
	pool := cmp.Or(pol.ConnectionPool, &model.ConnectionPool{})
	limited := pool.MaxConnections > 0 || pool.MaxPending > 0 || pool.MaxRequests > 0 || pool.MaxRetries > 0
	if !limited && pol.RetryBudget == nil {
		return nil
	}

	limit := func(n uint32) *wrapperspb.UInt32Value { return wrapperspb.UInt32(cmp.Or(n, math.MaxUint32)) }
	t := &clusterv3.CircuitBreakers_Thresholds{
		MaxConnections:     limit(pool.MaxConnections),
		MaxPendingRequests: limit(pool.MaxPending),
		MaxRequests:        limit(pool.MaxRequests),
		MaxRetries:         optional(wrapperspb.UInt32(pool.MaxRetries), pool.MaxRetries > 0),
		TrackRemaining:     true,
	}
	if budget := pol.RetryBudget; budget != nil {
		t.RetryBudget = &clusterv3.CircuitBreakers_Thresholds_RetryBudget{}
		if budget.Percent != nil {
			t.RetryBudget.BudgetPercent = &typev3.Percent{Value: *budget.Percent}
		}
		if budget.MinConcurrency != nil {
			t.RetryBudget.MinRetryConcurrency = wrapperspb.UInt32(*budget.MinConcurrency)
		}
	}
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{t}}
}

// connectionOptions are what sockets are told; nil leaves them as the proxy makes
// them.
func connectionOptions(mesh *model.Mesh, pool *model.ConnectionPool) *clusterv3.UpstreamConnectionOptions {
	k := mesh.Keepalive
	if pool != nil {
		k = cmp.Or(pool.Keepalive, k)
	}
	if k == nil {
		return nil
	}

	// A zero would turn keepalives off (envoy.config.core.v3.TcpKeepalive).
	number := func(n uint32) *wrapperspb.UInt32Value { return optional(wrapperspb.UInt32(n), n > 0) }
	return &clusterv3.UpstreamConnectionOptions{TcpKeepalive: &corev3.TcpKeepalive{
		KeepaliveProbes:   number(k.Probes),
		KeepaliveTime:     number(uint32(k.Time / time.Second)),
		KeepaliveInterval: number(uint32(k.Interval / time.Second)),
	}}
}

// httpOptions says which HTTP version the endpoints are spoken to in: HTTP/2
// where the port is declared so, else what the caller speaks; and how connections
// are used. Ports that carry no HTTP need none.
//
// From the edge, where browsers choose HTTP/2 by themselves, a port that is declared as
// HTTP is spoken to in HTTP/1.1, as in Istio: its application may know no other.
func httpOptions(p model.Protocol, pool *model.ConnectionPool, edge bool) map[string]*anypb.Any {
	if p != model.Unknown && !p.IsHTTP() {
		return nil
	}
	if pool == nil {
		pool = &model.ConnectionPool{}
	}

	o := &httpv3.HttpProtocolOptions{CommonHttpProtocolOptions: commonHTTP(pool)}
	switch {
	case onlyHTTP2(p, pool):
		o.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
					Http2ProtocolOptions: http2(pool),
				},
			},
		}
	case edge && p == model.HTTP && !pool.ClientProtocol:
		o.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{
					HttpProtocolOptions: &corev3.Http1ProtocolOptions{},
				},
			},
		}
	default:
		o.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_UseDownstreamProtocolConfig{
			UseDownstreamProtocolConfig: &httpv3.HttpProtocolOptions_UseDownstreamHttpConfig{
				HttpProtocolOptions:  &corev3.Http1ProtocolOptions{},
				Http2ProtocolOptions: http2(pool),
			},
		}
	}
	return map[string]*anypb.Any{xds.HTTPOptions: pack(o)}
}

// onlyHTTP2 tells whether endpoints are spoken to in HTTP/2 whatever clients speak.
func onlyHTTP2(p model.Protocol, pool *model.ConnectionPool) bool {
	return p.IsHTTP2() && !(pool != nil && pool.ClientProtocol)
}

// commonHTTP is what holds for connections of either version; nil when nothing is
// said of them. The idle time of TCP counts where there is none of HTTP, as in
// Istio.
func commonHTTP(pool *model.ConnectionPool) *corev3.HttpProtocolOptions {
	idle := cmp.Or(pool.HTTPIdle, pool.TCPIdle)
	if idle == nil && pool.MaxRequestsPerConnection == 0 && pool.MaxAge == 0 {
		return nil
	}

	out := &corev3.HttpProtocolOptions{
		MaxRequestsPerConnection: optional(wrapperspb.UInt32(pool.MaxRequestsPerConnection), pool.MaxRequestsPerConnection > 0),
		MaxConnectionDuration:    optional(durationpb.New(pool.MaxAge), pool.MaxAge > 0),
	}
	if idle != nil {
		out.IdleTimeout = durationpb.New(*idle)
	}
	return out
}

func http2(pool *model.ConnectionPool) *corev3.Http2ProtocolOptions {
	out := &corev3.Http2ProtocolOptions{
		MaxConcurrentStreams: optional(wrapperspb.UInt32(pool.MaxStreams), pool.MaxStreams > 0),
	}
	if ping := pool.HTTP2Ping; ping != nil {
		out.ConnectionKeepalive = &corev3.KeepaliveSettings{
			Interval: durationpb.New(ping.Interval), Timeout: durationpb.New(ping.Timeout),
		}
	}
	return out
}
