package discovery

import (
	"io"
	"net/http"
	"runtime/debug"

	"github.com/isthmus-mesh/isthmus/version"
)

// serveVersion answers as Istio's discovery does: VERSION-REVISION-STATUS in
// plain text, which istioctl version takes apart at the dashes from behind.
func serveVersion(w http.ResponseWriter, _ *http.Request) {
	info, _ := debug.ReadBuildInfo()
	w.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(w, versionLine(version.Version, info)) // the client has gone
}

// versionLine writes a version with the commit that it was built from, as far as
// the build knows it.
func versionLine(version string, info *debug.BuildInfo) string {
	revision, status := "unknown", "Unknown"
	if info != nil {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				revision = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				status = "Modified"
			case s.Key == "vcs.modified":
				status = "Clean"
			}
		}
	}
	return version + "-" + revision + "-" + status
}
