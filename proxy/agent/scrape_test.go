package agent_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/isthmus-mesh/isthmus/proxy/agent"
)

func TestParseScrape(t *testing.T) {
	got, err := agent.ParseScrape(`{"scrape":"true","path":"m","port":"9102","scheme":"https"}`)
	if err != nil || got == nil || *got != (agent.Scrape{Path: "/m", Port: 9102, HTTPS: true}) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, none := range []string{"", `{"scrape":"false"}`} {
		if got, err := agent.ParseScrape(none); got != nil || err != nil {
			t.Errorf("%q: %+v, %v", none, got, err)
		}
	}
	for _, bad := range []string{"{", `{"scrape":"true"}`, `{"scrape":"true","port":"x"}`, `{"scrape":"true","port":"1","scheme":"ftp"}`, `{"extra":1}`} {
		if _, err := agent.ParseScrape(bad); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

const (
	plainMetrics = "# HELP app_requests_total Requests.\n# TYPE app_requests_total counter\napp_requests_total{code=\"200\"} 5\n" +
		"# TYPE go_goroutines gauge\ngo_goroutines 7\n"
	openMetrics = "# TYPE app_requests counter\napp_requests_total{code=\"200\"} 5 # {trace_id=\"a\"} 1\n# TYPE go_goroutines gauge\ngo_goroutines 7\n# EOF\n"
)

// metricsApp is an application with metrics in several states.
func metricsApp(t *testing.T) agent.Port {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/metrics":
			if strings.Contains(r.Header.Get("Accept"), "openmetrics") {
				w.Header().Set("Content-Type", "application/openmetrics-text; version=1.0.0; charset=utf-8")
				_, _ = io.WriteString(w, openMetrics)
				return
			}
			w.Header().Set("Content-Type", "text/plain; version=0.0.4")
			_, _ = io.WriteString(w, plainMetrics)
		case "/query":
			_, _ = io.WriteString(w, "query{q=\""+r.URL.Query().Get("q")+"\"} 1\n")
		case "/html":
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<html>")
		case "/sick":
			http.Error(w, "no", http.StatusInternalServerError)
		case "/endless":
			w.Header().Set("Content-Type", "text/plain")
			line := bytes.Repeat([]byte("app_thing 1\n"), 4096)
			for {
				if _, err := w.Write(line); err != nil {
					return
				}
			}
		case "/cut":
			w.Header().Set("Content-Type", "text/plain")
			_, _ = io.WriteString(w, "app_whole 1\napp_ha")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(srv.Close)
	return agent.Port(srv.Listener.Addr().(*net.TCPAddr).Port)
}

// scrapeOf asks for merged metrics.
func scrapeOf(t *testing.T, app agent.Scrape, accept, query string) (contentType, body string) {
	t.Helper()
	d := newDiscovery(t, netip.MustParseAddrPort("127.0.0.1:1"))
	r := startAgent(t, d, t.TempDir(), func(c *agent.Config) { c.Scrape = &app })
	defer r.end(t)
	req, err := http.NewRequest("GET", "http://"+r.addrs.Status+"/stats/prometheus"+query, nil)
	check(t, err)
	req.Header.Set("Accept", accept)
	req.Header.Set("Accept-Encoding", "identity")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	check(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	check(t, err)
	if resp.StatusCode != 200 {
		t.Errorf("%s: %s", app.Path, resp.Status)
	}
	// The proxy's own page never holds the application's.
	if _, own := get(t, "GET", "http://"+r.addrs.Metrics+"/stats/prometheus"); strings.Contains(own, "app_") {
		t.Error("port 15090 has the application's metrics")
	}
	return resp.Header.Get("Content-Type"), string(data)
}

// TestMergedMetrics: one answer has the application's metrics and the proxy's,
// each family once, in the format that both the scraper and the application
// know.
func TestMergedMetrics(t *testing.T) {
	port := metricsApp(t)
	const openAccept = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
	for _, tt := range []struct {
		what, path, accept string
		open               bool
		app                string // a sample of the application's
		count              string // failures so far
	}{
		{"text", "/metrics", "text/plain", false, `app_requests_total{code="200"} 5`, "0"},
		{
			what:   "OpenMetrics",
			path:   "/metrics",
			accept: openAccept,
			open:   true,
			app:    `app_requests_total{code="200"} 5 # {trace_id="a"} 1`,
			count:  "0",
		},
		{
			what:   "protobuf is wanted",
			path:   "/metrics",
			accept: "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
			app:    `app_requests_total{code="200"} 5`,
			count:  "0",
		},
		{"the application knows text only", "/query", openAccept, false, `query{q="a"} 1`, "0"},
		{"no metrics", "/html", "text/plain", false, "", "1"},
		{"an error", "/sick", openAccept, false, "", "1"},
		{"it breaks off", "/cut", "text/plain", false, "app_whole 1", "1"},
		{"it never ends", "/endless", "text/plain", false, "app_thing 1", "1"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			kind, body := scrapeOf(t, agent.Scrape{Path: tt.path, Port: port}, tt.accept, "?q=a")
			if strings.Contains(kind, "openmetrics") != tt.open {
				t.Errorf("content type %s", kind)
			}
			if tt.app != "" && !strings.Contains(body, tt.app+"\n") {
				t.Errorf("the application's metrics are missing:\n%.400s", body)
			}
			if strings.Contains(body, "app_ha") || strings.Contains(body, "<html>") {
				t.Error("half a line was passed on")
			}
			if want := "isthmus_proxy_application_scrape_failures_total " + tt.count; !strings.Contains(body, "\n"+want) {
				t.Errorf("%q is missing", want)
			}
			if n := strings.Count(body, "# TYPE go_goroutines "); n != 1 {
				t.Errorf("go_goroutines comes %d times", n)
			}
			if n := strings.Count(body, "# EOF"); tt.open && (n != 1 || !strings.HasSuffix(body, "# EOF\n")) || !tt.open && n != 0 {
				t.Errorf("%d end marks", n)
			}
			if !tt.open && tt.path != "/endless" {
				p := expfmt.NewTextParser(model.UTF8Validation)
				if _, err := p.TextToMetricFamilies(strings.NewReader(body)); err != nil {
					t.Errorf("the answer does not parse: %v", err)
				}
			}
		})
	}
	if _, body := scrapeOf(t, agent.Scrape{Path: "/", Port: deafPort(t)}, "text/plain", ""); !strings.Contains(body, "isthmus_proxy_ready 0") {
		t.Error("without the application the proxy's metrics are missing")
	}
}
