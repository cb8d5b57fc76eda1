// Package corefile reads and edits CoreDNS's configuration as text: it finds
// server blocks and directives, adds and removes a stub for one zone, and
// translates directives that newer versions of CoreDNS have dropped. What it
// does not edit stays as it was, byte for byte.
//
// coredns/corefile-migration, which kubeadm uses, does not: it writes the whole file
// anew without its comments, drops what has no counterpart without a word (proxy's
// protocol and policy), and asks for the version that the file was written for.
//
// It is pure: package dns/stub applies the edits to a cluster.
package corefile
