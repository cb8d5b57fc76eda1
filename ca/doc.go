// Package ca is the mesh's certificate authority: it holds the signing key,
// signs the requests of workloads over istio.v1.auth.IstioCertificateService,
// and publishes the root into every namespace.
//
// The key comes from the Secret cacerts, which is followed while the process
// runs, or else from a self-signed root that the first replica puts into the
// Secret istio-ca-secret. [Authority] signs; [Authenticator] proves callers by
// client certificate or service account token; [Service] joins both.
//
// The package does not decide what an identity may do.
package ca
