package discovery

import (
	"runtime/debug"
	"strings"
	"testing"
)

// parseIstiodVersion takes the line apart as istioctl does.
func parseIstiodVersion(line string) (version, revision, status string) {
	parts := strings.Split(line, "-")
	n := len(parts)
	if n < 3 {
		return line, "", ""
	}
	return strings.Join(parts[:n-2], "-"), parts[n-2], parts[n-1]
}

func TestVersionPage(t *testing.T) {
	w := newMonitor(t).get("/version", "10.9.9.9:1", "")
	if got := w.Header().Get("Content-Type"); got != "text/plain" {
		t.Errorf("content type %q", got)
	}
	if v, revision, status := parseIstiodVersion(w.Body.String()); v == "" || revision == "" || status == "" {
		t.Errorf("%q is not VERSION-REVISION-STATUS", w.Body)
	}

	info := &debug.BuildInfo{Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "0123abc"}, {Key: "vcs.modified", Value: "false"}}}
	if got := versionLine("v1.2.3-rc.1", info); got != "v1.2.3-rc.1-0123abc-Clean" {
		t.Errorf("got %q", got)
	}
	if v, revision, status := parseIstiodVersion(versionLine("v1.2.3-rc.1", info)); v != "v1.2.3-rc.1" || revision != "0123abc" || status != "Clean" {
		t.Errorf("istioctl reads %q, %q, %q", v, revision, status)
	}
}
