// Package access decides who may connect, and who may send which requests: it carries
// out Envoy's rbac filters, to which discovery turns every AuthorizationPolicy.
//
// What depends on the connection alone (the proven identity of the peer, addresses, the
// server name) is found out once, when the connection begins; the rest is asked of each
// request, without allocating. A request is judged by what the application will get. Where
// an application may read it in more than one way, as a path with an encoded slash, a
// refusal holds if any reading satisfies it, and a permission only if all do.
//
// Package jwt verifies the tokens of requests before; what it found of one, its claims, is
// asked about as header fields are.
//
// It takes values: no sockets, no clock, no counters of its own.
package access
