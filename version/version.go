// Package version names the build. It holds no logic.
package version

// Version is the release, stamped at link time with
// -ldflags "-X github.com/isthmus-mesh/isthmus/version.Version=v1.2.3".
// It is also the default image tag that install asks for.
var Version = "dev"

// DefaultHub is the image repository that install asks for unless told
// otherwise with --set hub=….
const DefaultHub = "isthmus.local"
