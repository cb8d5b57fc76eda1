// Package charts carries the Helm charts that install renders. They render with
// stock Helm just as well: helm install istiod charts/istiod -n istio-system.
//
// It holds files and nothing else.
package charts

import "embed"

// FS holds one directory per chart. The CRDs in base/files are written by
// "go generate ./install/..." and may be missing from a plain build.
//
//go:embed all:base all:istiod all:gateway all:istiocoredns all:multicluster all:operator
var FS embed.FS
