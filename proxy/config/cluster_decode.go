package config

import (
	"math"
	"net/netip"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/xds"
)

// defaultConnectTimeout is Envoy's connect_timeout.
const defaultConnectTimeout = 5 * time.Second

// DecodeCluster reads and checks a cluster.
func DecodeCluster(body *anypb.Any) (*Cluster, error) {
	p := &clusterv3.Cluster{}
	a := at{kind: "cluster"}
	if err := a.unpack(body, p); err != nil {
		return nil, err
	}

	a.name = p.GetName()
	if a.name == "" {
		return nil, a.in("name").errorf("is empty")
	}

	if err := a.only(p, "name", "alt_stat_name", "type", "eds_cluster_config", "connect_timeout",
		"per_connection_buffer_limit_bytes", "lb_policy", "load_assignment", "max_requests_per_connection",
		"circuit_breakers", "http2_protocol_options", "http_protocol_options", "common_http_protocol_options",
		"typed_extension_protocol_options", "dns_refresh_rate", "dns_failure_refresh_rate",
		"dns_jitter", "respect_dns_ttl", "dns_lookup_family", "wait_for_warm_on_init",
		"outlier_detection", "cleanup_interval", "upstream_bind_config", "least_request_lb_config",
		"round_robin_lb_config", "ring_hash_lb_config", "maglev_lb_config", "original_dst_lb_config", "common_lb_config", "transport_socket",
		"transport_socket_matches", "metadata", "protocol_selection", "upstream_connection_options",
		"track_timeout_budgets", "track_cluster_stats", "close_connections_on_host_health_failure",
		"ignore_health_on_host_removal", "lb_subset_config"); err != nil {
		return nil, err
	}

	c := &Cluster{
		Name: a.name, Version: versionOf(body), ConnectTimeout: defaultConnectTimeout,
		Service: decodeService(p.GetMetadata()),
	}
	steps := []func(at, *clusterv3.Cluster) error{
		c.decodeType, c.decodeLB, c.decodeTransports, c.decodeHTTP, c.decodeBind, c.decodeLimits,
		c.decodeOutlier, c.decodeBalance, c.decodeHashTable, c.decodeDNS,
	}

	for _, step := range steps {
		if err := step(a, p); err != nil {
			return nil, err
		}
	}
	if c.ConnectTimeout == 0 {
		return nil, a.in("connect_timeout").errorf("is 0")
	}
	return c, nil
}

func (c *Cluster) decodeType(a at, p *clusterv3.Cluster) error {
	switch p.GetType() {
	case clusterv3.Cluster_STATIC:
		c.Type = ClusterStatic
	case clusterv3.Cluster_EDS:
		c.Type = ClusterEDS
	case clusterv3.Cluster_STRICT_DNS:
		c.Type = ClusterStrictDNS
	case clusterv3.Cluster_LOGICAL_DNS:
		c.Type = ClusterLogicalDNS
	case clusterv3.Cluster_ORIGINAL_DST:
		c.Type = ClusterOriginalDst
	default:
		return a.in("type").errorf("%v is not supported by this proxy", p.GetType())
	}

	if c.Type == ClusterEDS {
		c.EDSName = c.Name
		e := p.GetEdsClusterConfig()
		if n := e.GetServiceName(); n != "" {
			c.EDSName = n
		}
		return a.in("eds_cluster_config.eds_config").fromADS(e.GetEdsConfig())
	}

	if p.GetEdsClusterConfig() != nil {
		return a.in("eds_cluster_config").errorf("is set on a cluster that is not of type EDS")
	}

	la := p.GetLoadAssignment()
	if la == nil {
		return nil
	}
	if c.Type == ClusterOriginalDst {
		return a.in("load_assignment").errorf("is set on a cluster of type ORIGINAL_DST")
	}

	names := c.Type == ClusterStrictDNS || c.Type == ClusterLogicalDNS
	var err error
	c.Endpoints, err = decodeAssignment(a.in("load_assignment"), la, names)
	return err
}

func (c *Cluster) decodeLB(a at, p *clusterv3.Cluster) error {
	switch p.GetLbPolicy() {
	case clusterv3.Cluster_ROUND_ROBIN:
		c.LB = LBRoundRobin
	case clusterv3.Cluster_LEAST_REQUEST:
		c.LB = LBLeastRequest
	case clusterv3.Cluster_RANDOM:
		c.LB = LBRandom
	case clusterv3.Cluster_RING_HASH:
		c.LB = LBRingHash
	case clusterv3.Cluster_MAGLEV:
		c.LB = LBMaglev
	case clusterv3.Cluster_CLUSTER_PROVIDED:
		c.LB = LBClusterProvided
	default:
		return a.in("lb_policy").errorf("%v is not supported by this proxy", p.GetLbPolicy())
	}

	// As in Envoy: neither makes sense without the other.
	if (c.LB == LBClusterProvided) != (c.Type == ClusterOriginalDst) {
		return a.in("lb_policy").errorf("CLUSTER_PROVIDED and type ORIGINAL_DST go together")
	}
	if o := p.GetOriginalDstLbConfig(); o != nil {
		oa := a.in("original_dst_lb_config")
		if err := oa.only(o, "upstream_port_override"); err != nil {
			return err
		}
		if p := o.GetUpstreamPortOverride(); p != nil {
			if p.Value == 0 || p.Value > math.MaxUint16 {
				return oa.in("upstream_port_override").errorf("%d is not a port", p.Value)
			}
			c.DestinationPort = uint16(p.Value)
		}
	}

	if s := p.GetLbSubsetConfig(); s != nil {
		if err := a.in("lb_subset_config").only(s); err != nil {
			return err
		}
	}

	return a.durations(durationField{"connect_timeout", p.GetConnectTimeout(), &c.ConnectTimeout})
}

func (c *Cluster) decodeTransports(a at, p *clusterv3.Cluster) error {
	var err error
	c.Transport, err = decodeUpstreamSocket(a.in("transport_socket"), p.GetTransportSocket())
	if err != nil {
		return err
	}

	for i, m := range p.GetTransportSocketMatches() {
		ma := a.index("transport_socket_matches", i)
		if err := ma.only(m, "name", "match", "transport_socket"); err != nil {
			return err
		}

		t, err := decodeUpstreamSocket(ma.in("transport_socket"), m.GetTransportSocket())
		if err != nil {
			return err
		}

		t.Name = m.GetName()
		tm := TransportMatch{Transport: t, Match: map[string]string{}}
		for k, v := range inOrder(m.GetMatch().GetFields()) {
			s, ok := v.AsInterface().(string)
			if !ok {
				return ma.in("match." + k).errorf("is not a string")
			}
			tm.Match[k] = s
		}
		c.Matches = append(c.Matches, tm)
	}

	return nil
}

func (c *Cluster) decodeHTTP(a at, p *clusterv3.Cluster) error {
	c.HTTP.MaxRequests = p.GetMaxRequestsPerConnection().GetValue()
	if h2 := p.GetHttp2ProtocolOptions(); h2 != nil {
		c.HTTP.Protocol = HTTP2
		if err := c.HTTP.setHTTP2(a.in("http2_protocol_options"), h2); err != nil {
			return err
		}
	}

	if p.GetProtocolSelection() == clusterv3.Cluster_USE_DOWNSTREAM_PROTOCOL {
		c.HTTP.Protocol = HTTPUseDownstream
	}
	if err := c.HTTP.setCommon(a.in("common_http_protocol_options"), p.GetCommonHttpProtocolOptions()); err != nil {
		return err
	}

	for key, body := range inOrder(p.GetTypedExtensionProtocolOptions()) {
		ka := a.in("typed_extension_protocol_options[" + key + "]")
		if key != xds.HTTPOptions {
			return ka.errorf("is not supported by this proxy")
		}
		m := &httpv3.HttpProtocolOptions{}
		if err := ka.unpack(body, m); err != nil {
			return err
		}
		if err := c.HTTP.decode(ka, m); err != nil {
			return err
		}
	}

	return nil
}

func (o *HTTPOptions) decode(a at, m *httpv3.HttpProtocolOptions) error {
	if err := a.only(m, "common_http_protocol_options", "explicit_http_config",
		"use_downstream_protocol_config"); err != nil {
		return err
	}

	switch v := m.GetUpstreamProtocolOptions().(type) {
	case *httpv3.HttpProtocolOptions_ExplicitHttpConfig_:
		ea := a.in("explicit_http_config")
		switch e := v.ExplicitHttpConfig.GetProtocolConfig().(type) {
		case *httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions:
			o.Protocol = HTTP1
		case *httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions:
			o.Protocol = HTTP2
			if err := o.setHTTP2(ea.in("http2_protocol_options"), e.Http2ProtocolOptions); err != nil {
				return err
			}
		default:
			return ea.errorf("is neither HTTP/1 nor HTTP/2")
		}
	case *httpv3.HttpProtocolOptions_UseDownstreamProtocolConfig:
		ua := a.in("use_downstream_protocol_config")
		if err := ua.only(v.UseDownstreamProtocolConfig, "http_protocol_options", "http2_protocol_options"); err != nil {
			return err
		}
		o.Protocol = HTTPUseDownstream
		if err := o.setHTTP2(ua.in("http2_protocol_options"), v.UseDownstreamProtocolConfig.GetHttp2ProtocolOptions()); err != nil {
			return err
		}
	default:
		return a.errorf("names no protocol")
	}

	return o.setCommon(a.in("common_http_protocol_options"), m.GetCommonHttpProtocolOptions())
}

func (o *HTTPOptions) setCommon(a at, p *corev3.HttpProtocolOptions) error {
	if p == nil {
		return nil
	}
	if err := a.only(p, "idle_timeout", "max_requests_per_connection", "max_connection_duration",
		"max_headers_count", "max_response_headers_kb"); err != nil {
		return err
	}
	if n := p.GetMaxRequestsPerConnection().GetValue(); n > 0 {
		o.MaxRequests = n
	}
	o.IdleSet = p.GetIdleTimeout() != nil
	return a.durations(
		durationField{"idle_timeout", p.GetIdleTimeout(), &o.IdleTimeout},
		durationField{"max_connection_duration", p.GetMaxConnectionDuration(), &o.MaxAge})
}

// setHTTP2 reads what counts towards endpoints. What is there to tune Envoy's
// codec changes nothing here.
func (o *HTTPOptions) setHTTP2(a at, p *corev3.Http2ProtocolOptions) error {
	o.MaxStreams = p.GetMaxConcurrentStreams().GetValue()
	k := p.GetConnectionKeepalive()
	if k == nil {
		return nil
	}

	ka := a.in("connection_keepalive")
	if err := ka.only(k, "interval", "timeout", "interval_jitter"); err != nil {
		return err
	}
	ping := HTTP2Ping{}
	if err := ka.durations(durationField{"interval", k.GetInterval(), &ping.Interval},
		durationField{"timeout", k.GetTimeout(), &ping.Timeout}); err != nil {
		return err
	}
	if ping.Timeout == 0 {
		return ka.in("timeout").errorf("is not above 0")
	}
	if ping.Interval > 0 { // without one, Envoy sends no PING by itself
		o.Ping = &ping
	}
	return nil
}

func (c *Cluster) decodeBind(a at, p *clusterv3.Cluster) error {
	if k := p.GetUpstreamConnectionOptions(); k != nil {
		if err := a.in("upstream_connection_options").only(k, "tcp_keepalive"); err != nil {
			return err
		}
		c.Keepalive = decodeKeepalive(k.GetTcpKeepalive())
	}

	b := p.GetUpstreamBindConfig()
	if b == nil {
		return nil
	}

	ba := a.in("upstream_bind_config")
	if err := ba.only(b, "source_address", "freebind", "extra_source_addresses"); err != nil {
		return err
	}

	addrs := []*corev3.SocketAddress{b.GetSourceAddress()}
	for _, e := range b.GetExtraSourceAddresses() {
		addrs = append(addrs, e.GetAddress())
	}

	for _, s := range addrs {
		ip, err := netip.ParseAddr(s.GetAddress())
		if err != nil {
			return ba.errorf("source address %q is not an IP address", s.GetAddress())
		}
		if s.GetPortValue() != 0 {
			return ba.errorf("source port %d: only 0 is supported by this proxy", s.GetPortValue())
		}
		// An unspecified address leaves the choice to the kernel, as none does.
		if !ip.IsUnspecified() {
			c.BindSource = append(c.BindSource, ip.Unmap())
		}
	}

	return nil
}

// decodeKeepalive reads TCP keepalives; one field given as 0 turns them off
// (envoy.config.core.v3.TcpKeepalive).
func decodeKeepalive(p *corev3.TcpKeepalive) *TCPKeepalive {
	if p == nil {
		return nil
	}
	k := &TCPKeepalive{
		Probes:   int(min(p.GetKeepaliveProbes().GetValue(), math.MaxInt16)),
		Idle:     time.Duration(p.GetKeepaliveTime().GetValue()) * time.Second,
		Interval: time.Duration(p.GetKeepaliveInterval().GetValue()) * time.Second,
	}
	for _, v := range []*wrapperspb.UInt32Value{p.GetKeepaliveProbes(), p.GetKeepaliveTime(), p.GetKeepaliveInterval()} {
		k.Off = k.Off || v != nil && v.GetValue() == 0
	}
	return k
}

func (c *Cluster) decodeDNS(a at, p *clusterv3.Cluster) error {
	switch p.GetDnsLookupFamily() {
	case clusterv3.Cluster_AUTO:
		c.DNSFamily = DNSV6Preferred
	case clusterv3.Cluster_V4_ONLY:
		c.DNSFamily = DNSV4Only
	case clusterv3.Cluster_V6_ONLY:
		c.DNSFamily = DNSV6Only
	case clusterv3.Cluster_V4_PREFERRED:
		c.DNSFamily = DNSV4Preferred
	case clusterv3.Cluster_ALL:
		c.DNSFamily = DNSAll
	}

	//lint:ignore SA1019 its successor, a typed resolver, is not understood here
	c.DNSByTTL = p.GetRespectDnsTtl()
	return a.durations(durationField{"dns_refresh_rate", p.GetDnsRefreshRate(), &c.DNSRefresh})
}

// decodeService reads the first service of the filter metadata "istio".
func decodeService(m *corev3.Metadata) Service {
	list := m.GetFilterMetadata()["istio"].GetFields()["services"].GetListValue().GetValues()
	if len(list) == 0 {
		return Service{}
	}
	f := list[0].GetStructValue().GetFields()
	return Service{
		Host: f["host"].GetStringValue(), Name: f["name"].GetStringValue(), Namespace: f["namespace"].GetStringValue(),
	}
}
