// Package dns answers for the hosts of ServiceEntries. It holds the table of
// names, the CoreDNS plugin "isthmus" that answers from it, and the server that
// runs CoreDNS with that plugin.
//
// It reads no Kubernetes API: package dns/entries fills the table from one. It
// does not touch the cluster's own DNS either: packages dns/corefile and
// dns/stub point that here.
package dns
