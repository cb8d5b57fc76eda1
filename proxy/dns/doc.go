// Package dns is the name server of a sidecar: it answers for the names that the
// mesh knows, and passes every other query on to the resolvers that the pod would
// ask without it.
//
// The application's queries come here because package redirect leads them here.
// What discovery knows arrives as one table ([Server.SetTable]); before the first
// one everything is passed on, so that a pod is never without DNS.
//
//	Table       which name has which addresses; short forms, wildcards, search path
//	query       what a message asks (RFC 1035, RFC 6891)
//	answer      a reply out of the table
//	resolvers   the pod's own name servers: queries that are passed on
//	Server      sockets: UDP and TCP
//
// The package knows no xDS and reads no environment. It keeps no cache: answers of
// the mesh need none, and the others are their resolver's to keep.
package dns
