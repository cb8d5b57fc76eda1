package config

import "time"

// Codec selects the HTTP version on the downstream side
// (HttpConnectionManager.codec_type).
type Codec uint8

// Codecs. CodecAuto goes by ALPN, then by the connection preface.
const (
	CodecAuto Codec = iota
	CodecHTTP1
	CodecHTTP2
)

// ForwardClientCert says what becomes of the x-forwarded-client-cert header
// (HttpConnectionManager.forward_client_cert_details).
type ForwardClientCert uint8

// Values, in Envoy's order. Sanitize is the default.
const (
	ForwardClientCertSanitize ForwardClientCert = iota
	ForwardClientCertForwardOnly
	ForwardClientCertAppendForward
	ForwardClientCertSanitizeSet
	ForwardClientCertAlwaysForwardOnly
)

// ClientCertDetails selects what of the peer's certificate goes into
// x-forwarded-client-cert besides By and Hash
// (set_current_client_cert_details).
type ClientCertDetails struct {
	Subject bool
	Cert    bool
	Chain   bool
	DNS     bool
	URI     bool
}

// HCM is envoy.extensions.filters.network.http_connection_manager.v3
// .HttpConnectionManager.
type HCM struct {
	Codec Codec
	// RouteName names the RouteConfiguration that comes by RDS; Routes holds
	// an inline one. Exactly one of the two is set.
	RouteName string
	Routes    *RouteConfig

	ServerName        string // value of the response's server header; empty: "envoy"
	ServerPassThrough bool   // leave the server header of the upstream alone
	ForwardClientCert ForwardClientCert
	ClientCertDetails ClientCertDetails
	UseRemoteAddress  bool
	GenerateRequestID bool     // default true
	Upgrades          []string // lower case upgrade types allowed, e.g. websocket
	// NormalizePath resolves dot segments and takes a backslash for a slash;
	// UnescapeSlashes decodes %2f and %5c before that, and MergeSlashes makes one of
	// several slashes.
	MergeSlashes     bool
	NormalizePath    bool
	UnescapeSlashes  bool
	StripAnyHostPort bool

	// IdleTimeout ends a connection without requests (default 1 h),
	// StreamIdleTimeout a request on which nothing moves (default 5 min),
	// HeadersTimeout bounds the receipt of a request's headers. Zero: no
	// bound.
	IdleTimeout       time.Duration
	StreamIdleTimeout time.Duration
	HeadersTimeout    time.Duration
	MaxHeaderBytes    uint32 // 0: the engine's default

	MaxConcurrentStreams uint32 // HTTP/2; 0: default

	// Tokens verifies those of each request before Access is asked; nil: nobody does.
	Tokens *TokenFilter
	// Access is asked about each request, in this order.
	Access []*AccessFilter

	AccessLogs []AccessLog
}
