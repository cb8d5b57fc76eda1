// Package identity is who a workload is: its SPIFFE ID, the certificate that
// proves it, and the roots by which it judges others.
//
// [ID] is the name. [Source] keeps a proxy's certificate and trust bundle
// current: it asks the mesh's CA for a certificate, renews it at half its life,
// and follows the root file. [Bundle] reads trust bundles.
//
// The package does not decide who may talk to whom, and it signs nothing: that
// is for package ca.
package identity
