// Package joincheck looks at clusters that are to form one mesh, and tells what
// would keep them from it: roots of trust, names, networks, gateways, the Secrets by
// which they read each other, clocks and versions.
//
// What a cluster shows is gathered first (Facts), and judged after that (Judge),
// without asking anybody. Nothing is changed. It looks from where it runs; what
// istiod sees from inside is told to it.
package joincheck
