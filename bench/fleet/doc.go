// Package fleet simulates the proxies of a mesh towards a discovery server: each
// is a real delta ADS stream on a connection of its own, which subscribes as a
// proxy does (all clusters and listeners, then the endpoints and routes that they
// name, and the virtual hosts of those), acknowledges every push, counts bytes, and
// after a break comes back with the versions that it has.
//
// Of a resource it looks no further than at the names that it refers to, and at
// each version only once for all proxies: a thousand proxies must cost less than
// the server that is measured. It works against any ADS server.
package fleet
