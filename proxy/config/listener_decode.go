package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	httpinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// defaultInspectTimeout is Envoy's listener_filters_timeout.
const defaultInspectTimeout = 15 * time.Second

// defaultHandshakeTimeout bounds handshakes that discovery does not bound.
const defaultHandshakeTimeout = 10 * time.Second

// DecodeListener reads and checks a listener.
func DecodeListener(body *anypb.Any) (*Listener, error) {
	p := &listenerv3.Listener{}
	a := at{kind: "listener"}
	if err := a.unpack(body, p); err != nil {
		return nil, err
	}

	a.name = p.GetName()
	if a.name == "" {
		return nil, a.in("name").errorf("is empty")
	}

	if err := a.only(p, "name", "address", "stat_prefix", "filter_chains", "use_original_dst",
		"default_filter_chain", "per_connection_buffer_limit_bytes", "metadata", "deprecated_v1",
		"drain_type", "listener_filters", "listener_filters_timeout", "bind_to_port",
		"continue_on_listener_filters_timeout", "traffic_direction", "connection_balance_config",
		"reuse_port", "enable_reuse_port", "access_log", "tcp_backlog_size",
		"max_connections_to_accept_per_socket_event", "ignore_global_conn_limit",
		"bypass_overload_manager", "tcp_keepalive"); err != nil {
		return nil, err
	}

	l := &Listener{Name: a.name, Version: versionOf(body), Bind: true}
	var err error
	if l.Address, err = a.in("address").socket(p.GetAddress()); err != nil {
		return nil, err
	}
	if b := p.GetBindToPort(); b != nil {
		l.Bind = b.GetValue()
	}
	if b := p.GetDeprecatedV1().GetBindToPort(); b != nil {
		l.Bind = l.Bind && b.GetValue()
	}

	switch p.GetTrafficDirection() {
	case corev3.TrafficDirection_INBOUND:
		l.Direction = DirectionInbound
	case corev3.TrafficDirection_OUTBOUND:
		l.Direction = DirectionOutbound
	}

	l.UseOriginalDst = p.GetUseOriginalDst().GetValue()
	l.ContinueOnTimeout = p.GetContinueOnListenerFiltersTimeout()
	l.InspectTimeout, err = a.in("listener_filters_timeout").duration(p.GetListenerFiltersTimeout(), defaultInspectTimeout)
	if err != nil {
		return nil, err
	}
	if err := l.decodeInspectors(a, p.GetListenerFilters()); err != nil {
		return nil, err
	}
	return l, l.decodeChains(a, p)
}

func (l *Listener) decodeInspectors(a at, filters []*listenerv3.ListenerFilter) error {
	for i, f := range filters {
		fa := a.index("listener_filters", i)
		if err := fa.only(f, "name", "typed_config"); err != nil {
			return err
		}

		body := f.GetTypedConfig()
		if body == nil {
			return fa.in("typed_config").errorf("is not set (filter %q)", f.GetName())
		}

		ca := fa.in("typed_config")
		var err error
		switch body.MessageName() {
		case "envoy.extensions.filters.listener.original_dst.v3.OriginalDst":
			m := &originaldstv3.OriginalDst{}
			if err = ca.unpack(body, m); err == nil {
				err = ca.only(m)
			}
			l.RestoreDst = true
		case "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector":
			m := &tlsinspectorv3.TlsInspector{}
			if err = ca.unpack(body, m); err == nil {
				err = ca.only(m, "enable_ja3_fingerprinting", "enable_ja4_fingerprinting",
					"initial_read_buffer_size", "max_client_hello_size")
			}
			l.InspectTLS = true
		case "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector":
			m := &httpinspectorv3.HttpInspector{}
			if err = ca.unpack(body, m); err == nil {
				err = ca.only(m)
			}
			l.InspectHTTP = true
		default:
			err = ca.errorf("listener filter %q (%s) is not supported by this proxy", f.GetName(), body.MessageName())
		}

		if err != nil {
			return err
		}
	}
	return nil
}

func (l *Listener) decodeChains(a at, p *listenerv3.Listener) error {
	seen := map[string]int{}
	for i, fc := range p.GetFilterChains() {
		ca := a.index("filter_chains", i)
		c, err := decodeChain(ca, fc)
		if err != nil {
			return err
		}
		// Two chains for the same connections: which of them is taken would be
		// chance, and with it who is let in.
		for _, k := range c.Match.keys() {
			if j, dup := seen[k]; dup {
				return ca.in("filter_chain_match").errorf("matches the same connections as filter_chains[%d]", j)
			}
			seen[k] = i
		}
		l.Chains = append(l.Chains, c)
	}

	if d := p.GetDefaultFilterChain(); d != nil {
		da := a.in("default_filter_chain")
		if d.GetFilterChainMatch() != nil {
			return da.in("filter_chain_match").errorf("has no place in the default chain")
		}
		c, err := decodeChain(da, d)
		if err != nil {
			return err
		}
		l.Default = c
	}

	if len(l.Chains) == 0 && l.Default == nil {
		return a.in("filter_chains").errorf("is empty, and there is no default_filter_chain")
	}
	return nil
}

func decodeChain(a at, p *listenerv3.FilterChain) (*FilterChain, error) {
	if err := a.only(p, "filter_chain_match", "filters", "metadata", "transport_socket",
		"transport_socket_connect_timeout", "name"); err != nil {
		return nil, err
	}

	c := &FilterChain{
		Name: p.GetName(), HandshakeTimeout: defaultHandshakeTimeout, Version: versionOfMessages(p),
	}

	var err error
	if c.Match, err = decodeMatch(a.in("filter_chain_match"), p.GetFilterChainMatch()); err != nil {
		return nil, err
	}
	if c.TLS, err = decodeDownstreamSocket(a.in("transport_socket"), p.GetTransportSocket()); err != nil {
		return nil, err
	}
	if c.TLS != nil {
		c.Access = c.TLS.Access
	}
	if err := a.durations(durationField{"transport_socket_connect_timeout", p.GetTransportSocketConnectTimeout(), &c.HandshakeTimeout}); err != nil {
		return nil, err
	}
	return c, c.decodeFilters(a, p.GetFilters())
}

func decodeMatch(a at, p *listenerv3.FilterChainMatch) (ChainMatch, error) {
	var m ChainMatch
	if p == nil {
		return m, nil
	}
	if err := a.only(p, "destination_port", "prefix_ranges", "server_names", "transport_protocol",
		"application_protocols"); err != nil {
		return m, err
	}

	if d := p.GetDestinationPort(); d != nil {
		if d.GetValue() == 0 || d.GetValue() > 65535 {
			return m, a.in("destination_port").errorf("%d is not a port", d.GetValue())
		}
		m.DestinationPort = uint16(d.GetValue())
	}

	for i, r := range p.GetPrefixRanges() {
		pf, err := a.index("prefix_ranges", i).prefix(r)
		if err != nil {
			return m, err
		}
		m.PrefixRanges = append(m.PrefixRanges, pf)
	}

	for i, n := range p.GetServerNames() {
		if rest, ok := strings.CutPrefix(n, "*."); n == "" || strings.Contains(n, "*") && (!ok || rest == "" || strings.Contains(rest, "*")) {
			return m, a.index("server_names", i).errorf("%q is neither a name nor of the form *.name", n)
		}
		m.ServerNames = append(m.ServerNames, strings.ToLower(n))
	}

	m.TransportProtocol = p.GetTransportProtocol()
	if t := m.TransportProtocol; t != "" && t != "tls" && t != "raw_buffer" {
		return m, a.in("transport_protocol").errorf("%q is neither tls nor raw_buffer", t)
	}
	m.ApplicationProtocols = p.GetApplicationProtocols()
	return m, nil
}

// keys are the single criteria that a match spans; two chains must not share
// one.
func (m *ChainMatch) keys() []string {
	orOne := func(s []string) []string {
		if len(s) == 0 {
			return []string{""}
		}
		return s
	}

	ranges := []string{""}
	if len(m.PrefixRanges) > 0 {
		ranges = nil
		for _, p := range m.PrefixRanges {
			ranges = append(ranges, p.String())
		}
	}

	var out []string
	for _, r := range ranges {
		for _, n := range orOne(m.ServerNames) {
			for _, p := range orOne(m.ApplicationProtocols) {
				out = append(out, fmt.Sprintf("%d|%s|%s|%s|%s", m.DestinationPort, r, n, m.TransportProtocol, p))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// socket reads a TCP address with an IP literal.
func (a at) socket(p *corev3.Address) (netip.AddrPort, error) {
	s := p.GetSocketAddress()
	if s == nil {
		return netip.AddrPort{}, a.errorf("is not a socket address")
	}

	sa := a.in("socket_address")
	if err := sa.only(s, "protocol", "address", "port_value", "ipv4_compat"); err != nil {
		return netip.AddrPort{}, err
	}
	if s.GetProtocol() != corev3.SocketAddress_TCP {
		return netip.AddrPort{}, sa.in("protocol").errorf("%v is not supported by this proxy", s.GetProtocol())
	}

	ip, err := netip.ParseAddr(s.GetAddress())
	if err != nil || ip.Zone() != "" {
		return netip.AddrPort{}, sa.in("address").errorf("%q is not an IP address", s.GetAddress())
	}
	if s.GetPortValue() > 65535 {
		return netip.AddrPort{}, sa.in("port_value").errorf("%d is not a port", s.GetPortValue())
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(s.GetPortValue())), nil
}

// prefix reads an address range.
func (a at) prefix(p *corev3.CidrRange) (netip.Prefix, error) {
	ip, err := netip.ParseAddr(p.GetAddressPrefix())
	if err != nil || ip.Zone() != "" {
		return netip.Prefix{}, a.in("address_prefix").errorf("%q is not an IP address", p.GetAddressPrefix())
	}
	n := int(p.GetPrefixLen().GetValue())
	if n > ip.BitLen() {
		return netip.Prefix{}, a.in("prefix_len").errorf("%d is too long for %s", n, ip)
	}
	return netip.PrefixFrom(ip, n).Masked(), nil
}
