// Package rig holds the parts of a mesh on one machine, for tests and bench. They
// are real: network namespaces on one bridge (topo), a discovery server over a mesh
// that is made up (mesh), proxies of ours and of others (peers), API
// servers (apiserver), and certificates (pki); meter reads what a process has used.
//
// It judges nothing: test/envoy asserts, and bench measures. Nothing that is
// installed imports it.
package rig
