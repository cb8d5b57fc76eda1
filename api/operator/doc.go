// Package operator is the IstioOperator config kind (install.istio.io/v1alpha1):
// its types, its strict loader, and the overlaying of one document on another.
//
// Every key a user writes is checked against the types of this package: an
// unknown or ill-typed one is an error with its path, its line, and the nearest
// key that exists; a key that has no meaning in this mesh is refused with the
// reason. Keys may be camelCase or snake_case.
//
// The package reads no files and talks to no cluster, and knows nothing of
// profiles or charts: that is install/values and install/render.
package operator
