package xds

// Where the filter that verifies tokens leaves the claims of one for those behind it: in
// the dynamic metadata of the filter TokenFilter, under TokenPayload, as Istio has it.
const (
	TokenFilter  = "envoy.filters.http.jwt_authn"
	TokenPayload = "payload"
)
