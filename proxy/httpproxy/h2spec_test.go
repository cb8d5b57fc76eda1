package httpproxy

import (
	"crypto/tls"
	"encoding/xml"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// h2specTakenBack are the cases of h2spec in which RFC 9113 no longer asks for what RFC 7540 did, or in which our
// settings allow what h2spec takes to be forbidden.
var h2specTakenBack = map[string]string{
	"http2/3.5: Sends invalid connection preface": "the listener takes HTTP/1 as well: what is no preface is " +
		"HTTP/1, and gets a 400 (cleartext only)",
	"http2/4.2: Sends a large size HEADERS frame that exceeds the SETTINGS_MAX_FRAME_SIZE": "h2spec sends a frame " +
		"above the default of 16 KB, not above the 64 KB that we announce (RFC 9113 section 4.2)",
	"http2/5.3.1: Sends HEADERS frame that depend on itself":  "priority is deprecated (RFC 9113 section 5.3.2)",
	"http2/5.3.1: Sends PRIORITY frame that depend on itself": "priority is deprecated (RFC 9113 section 5.3.2)",
}

// junitReport is what h2spec writes.
type junitReport struct {
	Suites []struct {
		Cases []struct {
			Package string  `xml:"package,attr"`
			Name    string  `xml:"classname,attr"`
			Failure *string `xml:"failure"`
			Error   *string `xml:"error"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

// TestH2Spec runs the conformance suite github.com/summerwind/h2spec, which is a program of its own: make h2spec.
func TestH2Spec(t *testing.T) {
	bin := os.Getenv("H2SPEC")
	if bin == "" {
		t.Skip("H2SPEC names no h2spec; make h2spec builds it and runs this")
	}
	addr := backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write(make([]byte, 1000))
	}))
	certs := httptest.NewTLSServer(nil)
	defer certs.Close()
	for name, tt := range map[string]struct {
		up    config.HTTPProtocol
		codec config.Codec
		tls   bool
	}{
		"cleartext to HTTP/2":   {up: config.HTTP2},
		"cleartext to HTTP/1":   {up: config.HTTP1},
		"TLS to HTTP/2":         {up: config.HTTP2, tls: true},
		"HTTP/2 only to HTTP/2": {up: config.HTTP2, codec: config.CodecHTTP2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup{
				hcm:      config.HCM{Routes: toCluster("c"), Codec: tt.codec},
				clusters: []*config.Cluster{staticCluster("c", tt.up, addr)},
			}
			args := []string{"--strict", "--timeout", "3"}
			if tt.tls {
				s.tls = func([]string) *tls.Config {
					return &tls.Config{Certificates: certs.TLS.Certificates, NextProtos: []string{"h2"}}
				}
				args = append(args, "--tls", "--insecure")
			}
			runH2Spec(t, bin, startHop(t, s).addr, args)
		})
	}
}

func runH2Spec(t *testing.T, bin, addr string, args []string) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "report.xml")
	out, err := exec.Command(bin, append(args, "--host", host, "--port", port, "--junit-report", file)...).CombinedOutput()
	text, readErr := os.ReadFile(file)
	if readErr != nil {
		t.Fatalf("h2spec wrote no report: %v, %v\n%s", readErr, err, out)
	}
	var report junitReport
	if err := xml.Unmarshal(text, &report); err != nil {
		t.Fatal(err)
	}
	ran, failed := 0, 0
	for _, suite := range report.Suites {
		for _, c := range suite.Cases {
			ran++
			if c.Failure == nil && c.Error == nil {
				continue
			}
			failed++
			name := c.Package + ": " + c.Name
			if why, taken := h2specTakenBack[name]; taken {
				t.Logf("%s: %s", name, why)
				continue
			}
			for _, said := range []*string{c.Failure, c.Error} {
				if said != nil {
					t.Errorf("%s: %s", name, *said)
				}
			}
		}
	}
	if ran < 140 {
		t.Errorf("h2spec ran %d cases only:\n%s", ran, out)
	}
	t.Logf("%d of %d cases passed", ran-failed, ran)
}
