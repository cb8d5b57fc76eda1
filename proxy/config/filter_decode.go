package config

import (
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	filelogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	snicluster "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_cluster/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// defaultTCPIdle is Envoy's idle_timeout of tcp_proxy.
const defaultTCPIdle = time.Hour

// decodeFilters reads the network filters of a chain: those that decide who may
// connect, an optional sni_cluster, then exactly one of http_connection_manager and
// tcp_proxy.
func (c *FilterChain) decodeFilters(a at, filters []*listenerv3.Filter) error {
	sni := false
	for i, f := range filters {
		fa := a.index("filters", i)
		if err := fa.only(f, "name", "typed_config"); err != nil {
			return err
		}
		if c.HTTP != nil || c.TCP != nil {
			return fa.errorf("follows a terminal filter")
		}

		body := f.GetTypedConfig()
		ca := fa.in("typed_config")
		var err error
		switch name := body.MessageName(); {
		case name == "envoy.extensions.filters.network.sni_cluster.v3.SniCluster",
			body == nil && f.GetName() == "envoy.filters.network.sni_cluster":
			// It has no settings, and may come by its name alone.
			m := &snicluster.SniCluster{}
			if body != nil {
				if err = ca.unpack(body, m); err == nil {
					err = ca.only(m)
				}
			}
			sni = true
		case name == tcpAccessMessage:
			var access *AccessFilter
			if access, err = decodeTCPAccess(ca, body); err == nil {
				c.ConnAccess = append(c.ConnAccess, access)
			}
		case name == "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy":
			c.TCP, err = decodeTCPProxy(ca, body)
		case name == "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager":
			m := &hcmv3.HttpConnectionManager{}
			if err = ca.unpack(body, m); err == nil {
				c.HTTP, err = decodeHCM(ca, m)
			}
		default:
			err = ca.errorf("network filter %q (%s) is not supported by this proxy", f.GetName(), name)
		}

		if err != nil {
			return err
		}
	}

	if c.HTTP == nil && c.TCP == nil {
		return a.in("filters").errorf("has neither http_connection_manager nor tcp_proxy")
	}
	if c.TCP == nil && len(c.ConnAccess) > 0 {
		// Nothing is known of a reason to, and the requests are to be asked about.
		return a.in("filters").errorf("has a network rbac filter before http_connection_manager, which this proxy does not support")
	}
	if sni {
		if c.TCP == nil {
			return a.in("filters").errorf("has sni_cluster without tcp_proxy")
		}
		c.TCP.SNICluster = true
	}
	return nil
}

func decodeTCPProxy(a at, body *anypb.Any) (*TCPProxy, error) {
	p := &tcpproxyv3.TcpProxy{}
	if err := a.unpack(body, p); err != nil {
		return nil, err
	}
	if err := a.only(p, "stat_prefix", "cluster", "weighted_clusters", "idle_timeout", "access_log",
		"max_connect_attempts", "hash_policy", "max_downstream_connection_duration", "access_log_flush_interval",
		"flush_access_log_on_connected", "access_log_options"); err != nil {
		return nil, err
	}

	t := &TCPProxy{
		Cluster: p.GetCluster(), IdleTimeout: defaultTCPIdle,
		MaxConnectAttempts: p.GetMaxConnectAttempts().GetValue(),
	}

	for i, w := range p.GetWeightedClusters().GetClusters() {
		wa := a.in("weighted_clusters").index("clusters", i)
		if err := wa.only(w, "name", "weight"); err != nil {
			return nil, err
		}
		if w.GetName() == "" || w.GetWeight() == 0 {
			return nil, wa.errorf("needs a name and a weight above 0")
		}
		t.Weighted = append(t.Weighted, WeightedCluster{w.GetName(), w.GetWeight()})
	}

	if t.Cluster == "" && len(t.Weighted) == 0 {
		return nil, a.in("cluster").errorf("is empty")
	}

	var err error
	if t.HashSource, err = decodeTCPHash(a, p.GetHashPolicy()); err != nil {
		return nil, err
	}
	err = a.durations(
		durationField{"idle_timeout", p.GetIdleTimeout(), &t.IdleTimeout},
		durationField{"max_downstream_connection_duration", p.GetMaxDownstreamConnectionDuration(), &t.MaxAge})
	if err != nil {
		return nil, err
	}
	t.AccessLogs, err = decodeAccessLogs(a, p.GetAccessLog())
	return t, err
}

// decodeAccessLogs reads file access logs.
func decodeAccessLogs(a at, logs []*accesslogv3.AccessLog) ([]AccessLog, error) {
	var out []AccessLog
	for i, l := range logs {
		la := a.index("access_log", i)
		if err := la.only(l, "name", "typed_config"); err != nil {
			return nil, err
		}

		ca := la.in("typed_config")
		p := &filelogv3.FileAccessLog{}
		if err := ca.unpack(l.GetTypedConfig(), p); err != nil {
			return nil, err
		}
		if err := ca.only(p, "path", "log_format", "format"); err != nil {
			return nil, err
		}

		al := AccessLog{Path: p.GetPath(), Text: p.GetFormat()}
		if al.Path == "" {
			return nil, ca.in("path").errorf("is empty")
		}

		if f := p.GetLogFormat(); f != nil {
			if err := al.decodeFormat(ca.in("log_format"), f); err != nil {
				return nil, err
			}
		}
		out = append(out, al)
	}

	return out, nil
}

func (l *AccessLog) decodeFormat(a at, p *corev3.SubstitutionFormatString) error {
	if err := a.only(p, "text_format", "text_format_source", "json_format", "omit_empty_values",
		"json_format_options"); err != nil {
		return err
	}

	switch f := p.GetFormat().(type) {
	case *corev3.SubstitutionFormatString_TextFormat:
		l.Text = f.TextFormat
	case *corev3.SubstitutionFormatString_TextFormatSource:
		s, ok := f.TextFormatSource.GetSpecifier().(*corev3.DataSource_InlineString)
		if !ok {
			return a.in("text_format_source").errorf("is not an inline_string")
		}
		l.Text = s.InlineString
	case *corev3.SubstitutionFormatString_JsonFormat:
		l.JSON = map[string]string{}
		for k, v := range inOrder(f.JsonFormat.GetFields()) {
			s, ok := v.AsInterface().(string)
			if !ok {
				return a.in("json_format." + k).errorf("is not a string")
			}
			l.JSON[k] = s
		}
	}

	return nil
}
