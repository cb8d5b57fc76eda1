package http1

import "strings"

// EnvoyField recognizes the fields by which Envoys talk to each other. FieldEnvoyInternal are those that steer a proxy
// or say that a caller is one of the house: no caller may set them for the application. FieldEnvoy are the others,
// which are not believed at the edge of the mesh only.
// Source: https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter
func EnvoyField(name []byte) FieldID {
	const prefix = "x-envoy-"
	if len(name) <= len(prefix) || !EqualLower(name[:len(prefix)], prefix) {
		return OtherField
	}
	for _, rest := range [...]string{
		"internal", "retry-on", "retry-grpc-on", "max-retries", "retriable-status-codes", "retriable-header-names",
		"upstream-alt-stat-name", "upstream-rq-timeout-ms", "upstream-rq-per-try-timeout-ms",
		"upstream-rq-timeout-alt-response", "expected-rq-timeout-ms", "hedge-on-per-try-timeout",
		"force-trace", "ip-tags", "original-url",
	} {
		if EqualLower(name[len(prefix):], rest) {
			return FieldEnvoyInternal
		}
	}
	return FieldEnvoy
}

// IsAlias reports whether a field name, which none of the proxy's own equals, becomes one when underscores are read as
// hyphens: to CGI, WSGI and their kin the two are one name, so that a caller could speak in the proxy's place.
func IsAlias(name string) bool {
	if strings.IndexByte(name, '_') < 0 {
		return false
	}
	plain := strings.ToLower(strings.ReplaceAll(name, "_", "-"))
	for _, prefix := range [...]string{"x-forwarded-", "x-envoy-", "x-isthmus-"} {
		if strings.HasPrefix(plain, prefix) {
			return true
		}
	}
	switch identify([]byte(plain)) {
	case OtherField, FieldContentType, FieldUserAgent, FieldServer, FieldDate:
		return false
	}
	return true
}
