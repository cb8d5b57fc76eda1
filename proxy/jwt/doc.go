// Package jwt verifies the tokens (JWT, RFC 7519) of requests: it carries out Envoy's filter
// jwt_authn, to which discovery turns every RequestAuthentication.
//
// A token is believed for its signature by a key that the configuration gives, and for
// nothing that it says of itself: its algorithm only chooses among those that the key is
// for, never "none" or one with a secret; keys that it carries or points to (jwk, jku, x5u,
// x5c) are not looked at, and one that asks for extensions (crit) is refused.
//
// Who may send which requests is decided by package access, which asks about the claims of
// verified tokens. Header fields that the configuration fills from tokens reach the
// application from verified ones alone: what callers write there is taken away, and so is a
// token that nobody has verified.
//
// It takes values: no sockets, and the clock is the caller's.
package jwt
