package config

import (
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

func decodeHCM(a at, p *hcmv3.HttpConnectionManager) (*HCM, error) {
	if err := a.only(p, "codec_type", "stat_prefix", "rds", "route_config", "http_filters",
		"add_user_agent", "tracing", "common_http_protocol_options", "http_protocol_options",
		"http2_protocol_options", "server_name", "server_header_transformation",
		"max_request_headers_kb", "stream_idle_timeout", "request_headers_timeout",
		"drain_timeout", "delayed_close_timeout", "access_log", "access_log_flush_interval",
		"use_remote_address", "internal_address_config", "skip_xff_append",
		"generate_request_id",
		"forward_client_cert_details", "set_current_client_cert_details", "proxy_100_continue",
		"upgrade_configs", "normalize_path", "merge_slashes", "path_with_escaped_slashes_action",
		"stream_error_on_invalid_http_message", "strip_any_host_port", "request_id_extension"); err != nil {
		return nil, err
	}

	h := &HCM{
		ServerName:        p.GetServerName(),
		UseRemoteAddress:  p.GetUseRemoteAddress().GetValue(),
		GenerateRequestID: p.GetGenerateRequestId() == nil || p.GetGenerateRequestId().GetValue(),
		MergeSlashes:      p.GetMergeSlashes(), NormalizePath: p.GetNormalizePath().GetValue(),
		StripAnyHostPort: p.GetStripAnyHostPort(),
		IdleTimeout:      time.Hour, StreamIdleTimeout: 5 * time.Minute,
		MaxHeaderBytes: p.GetMaxRequestHeadersKb().GetValue() * 1024,
	}

	steps := []func(at, *hcmv3.HttpConnectionManager) error{
		h.decodeRoutes, h.decodeHTTPFilters, h.decodeProtocol, h.decodeClientCert, h.decodeUpgrades,
	}
	for _, step := range steps {
		if err := step(a, p); err != nil {
			return nil, err
		}
	}

	err := a.durations(
		durationField{"stream_idle_timeout", p.GetStreamIdleTimeout(), &h.StreamIdleTimeout},
		durationField{"request_headers_timeout", p.GetRequestHeadersTimeout(), &h.HeadersTimeout})
	if err != nil {
		return nil, err
	}
	h.AccessLogs, err = decodeAccessLogs(a, p.GetAccessLog())
	return h, err
}

func (h *HCM) decodeRoutes(a at, p *hcmv3.HttpConnectionManager) error {
	switch r := p.GetRouteSpecifier().(type) {
	case *hcmv3.HttpConnectionManager_Rds:
		ra := a.in("rds")
		h.RouteName = r.Rds.GetRouteConfigName()
		if h.RouteName == "" {
			return ra.in("route_config_name").errorf("is empty")
		}
		return ra.in("config_source").fromADS(r.Rds.GetConfigSource())
	case *hcmv3.HttpConnectionManager_RouteConfig:
		ra := a.in("route_config")
		var err error
		if h.Routes, err = decodeRouteConfig(ra, r.RouteConfig); err == nil && h.Routes.HostsApart {
			// Several of one name would share the virtual hosts of that name.
			err = ra.in("vhds").errorf("is not supported by this proxy in a configuration that is not a resource")
		}
		return err
	default:
		return a.errorf("has neither rds nor route_config")
	}
}

// fromADS refuses a config source other than the stream we are on.
func (a at) fromADS(p *corev3.ConfigSource) error {
	if err := a.only(p, "ads", "self", "initial_fetch_timeout", "resource_api_version"); err != nil {
		return err
	}
	if p.GetAds() == nil && p.GetSelf() == nil {
		return a.errorf("is not ads")
	}
	return nil
}

// decodeHTTPFilters accepts those that verify tokens and decide who may send requests, those to which
// routes speak, and the router: every other filter would act on requests in a way that is not known here.
func (h *HCM) decodeHTTPFilters(a at, p *hcmv3.HttpConnectionManager) error {
	for i, f := range p.GetHttpFilters() {
		fa := a.index("http_filters", i)
		if err := fa.only(f, "name", "typed_config"); err != nil {
			return err
		}

		last := i == len(p.GetHttpFilters())-1
		body := f.GetTypedConfig()
		ca := fa.in("typed_config")
		switch name := body.MessageName(); {
		case name == "envoy.extensions.filters.http.router.v3.Router":
			if !last {
				return fa.errorf("the router is not the last filter")
			}
			if err := checkRouter(ca, body); err != nil {
				return err
			}
		case name == httpAccessMessage:
			if last {
				return fa.errorf("is the last filter: the router is missing")
			}
			access, err := decodeHTTPAccess(ca, body)
			if err != nil {
				return err
			}
			h.Access = append(h.Access, access)
		case name == tokenMessage:
			if last {
				return fa.errorf("is the last filter: the router is missing")
			}
			if err := h.decodeTokens(fa, ca, body); err != nil {
				return err
			}
		case name == faultMessage, name == corsMessage:
			if last {
				return fa.errorf("is the last filter: the router is missing")
			}
			// What they do to requests, their routes say.
			var m proto.Message = &faultv3.HTTPFault{}
			if name == corsMessage {
				m = &corsv3.Cors{}
			}
			if err := ca.plain(body, m); err != nil {
				return err
			}
		default:
			return ca.errorf("HTTP filter %q (%s) is not supported by this proxy", f.GetName(), name)
		}
	}

	if len(p.GetHttpFilters()) == 0 {
		return a.in("http_filters").errorf("is empty: the router is missing")
	}
	return nil
}

// decodeTokens takes the one filter that verifies tokens.
func (h *HCM) decodeTokens(fa, body at, any *anypb.Any) error {
	switch {
	case h.Tokens != nil:
		return fa.errorf("is the second filter that verifies tokens; this proxy supports one")
	case len(h.Access) > 0:
		// Those before it would see header fields that it takes away, and no claims.
		return fa.errorf("verifies tokens behind an rbac filter, which this proxy does not support")
	}
	var err error
	h.Tokens, err = decodeTokens(body, any)
	return err
}

// checkRouter refuses settings of the router that would change something.
func checkRouter(a at, body *anypb.Any) error {
	r := &routerv3.Router{}
	if err := a.unpack(body, r); err != nil {
		return err
	}
	return a.only(r, "dynamic_stats", "start_child_span", "suppress_envoy_headers",
		"respect_expected_rq_timeout", "suppress_grpc_request_failure_code_stats")
}

func (h *HCM) decodeProtocol(a at, p *hcmv3.HttpConnectionManager) error {
	switch p.GetCodecType() {
	case hcmv3.HttpConnectionManager_AUTO:
	case hcmv3.HttpConnectionManager_HTTP1:
		h.Codec = CodecHTTP1
	case hcmv3.HttpConnectionManager_HTTP2:
		h.Codec = CodecHTTP2
	default:
		return a.in("codec_type").errorf("%v is not supported by this proxy", p.GetCodecType())
	}

	switch p.GetServerHeaderTransformation() {
	case hcmv3.HttpConnectionManager_OVERWRITE:
	case hcmv3.HttpConnectionManager_PASS_THROUGH:
		h.ServerPassThrough = true
	default:
		return a.in("server_header_transformation").errorf("%v is not supported by this proxy", p.GetServerHeaderTransformation())
	}

	// Any other action would change which route a request takes.
	switch p.GetPathWithEscapedSlashesAction() {
	case hcmv3.HttpConnectionManager_IMPLEMENTATION_SPECIFIC_DEFAULT, hcmv3.HttpConnectionManager_KEEP_UNCHANGED:
	case hcmv3.HttpConnectionManager_UNESCAPE_AND_FORWARD:
		h.UnescapeSlashes = true
	default:
		return a.in("path_with_escaped_slashes_action").errorf("%v is not supported by this proxy", p.GetPathWithEscapedSlashesAction())
	}

	if c := p.GetCommonHttpProtocolOptions(); c != nil {
		ca := a.in("common_http_protocol_options")
		if err := ca.only(c, "idle_timeout", "headers_with_underscores_action"); err != nil {
			return err
		}
		if c.GetHeadersWithUnderscoresAction() != corev3.HttpProtocolOptions_ALLOW {
			return ca.in("headers_with_underscores_action").errorf("is not supported by this proxy")
		}
		if err := ca.durations(durationField{"idle_timeout", c.GetIdleTimeout(), &h.IdleTimeout}); err != nil {
			return err
		}
	}

	h.MaxConcurrentStreams = p.GetHttp2ProtocolOptions().GetMaxConcurrentStreams().GetValue()
	return nil
}

func (h *HCM) decodeClientCert(a at, p *hcmv3.HttpConnectionManager) error {
	switch p.GetForwardClientCertDetails() {
	case hcmv3.HttpConnectionManager_SANITIZE:
		h.ForwardClientCert = ForwardClientCertSanitize
	case hcmv3.HttpConnectionManager_FORWARD_ONLY:
		h.ForwardClientCert = ForwardClientCertForwardOnly
	case hcmv3.HttpConnectionManager_APPEND_FORWARD:
		h.ForwardClientCert = ForwardClientCertAppendForward
	case hcmv3.HttpConnectionManager_SANITIZE_SET:
		h.ForwardClientCert = ForwardClientCertSanitizeSet
	case hcmv3.HttpConnectionManager_ALWAYS_FORWARD_ONLY:
		h.ForwardClientCert = ForwardClientCertAlwaysForwardOnly
	default:
		return a.in("forward_client_cert_details").errorf("%v is not known to this proxy", p.GetForwardClientCertDetails())
	}

	if d := p.GetSetCurrentClientCertDetails(); d != nil {
		h.ClientCertDetails = ClientCertDetails{
			Subject: d.GetSubject().GetValue(), Cert: d.GetCert(), Chain: d.GetChain(),
			DNS: d.GetDns(), URI: d.GetUri(),
		}
	}
	return nil
}

func (h *HCM) decodeUpgrades(a at, p *hcmv3.HttpConnectionManager) error {
	for i, u := range p.GetUpgradeConfigs() {
		ua := a.index("upgrade_configs", i)
		if err := ua.only(u, "upgrade_type", "enabled"); err != nil {
			return err
		}
		// A CONNECT that is let through leads wherever its caller says.
		if strings.EqualFold(u.GetUpgradeType(), "connect") {
			return ua.in("upgrade_type").errorf("CONNECT is not supported by this proxy")
		}
		if e := u.GetEnabled(); e == nil || e.GetValue() {
			h.Upgrades = append(h.Upgrades, strings.ToLower(u.GetUpgradeType()))
		}
	}
	return nil
}
