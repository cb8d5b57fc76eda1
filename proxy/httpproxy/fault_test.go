package httpproxy

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// versions runs a test with each version of HTTP on either side.
func versions(t *testing.T, run func(t *testing.T, h2 bool, proto config.HTTPProtocol)) {
	for name, v := range map[string]struct {
		h2    bool
		proto config.HTTPProtocol
	}{
		"1 to 1": {false, config.HTTP1},
		"1 to 2": {false, config.HTTP2},
		"2 to 1": {true, config.HTTP1},
		"2 to 2": {true, config.HTTP2},
	} {
		t.Run(name, func(t *testing.T) { run(t, v.h2, v.proto) })
	}
}

// faulty is toCluster("c") with a fault.
func faulty(f *config.Fault, change func(*config.Route)) *config.RouteConfig {
	rc := toCluster("c")
	r := rc.VirtualHosts[0].Routes[0]
	r.Fault = f
	if change != nil {
		change(r)
	}
	return rc
}

// value is that of a metric without labels.
func value(t *testing.T, h *hop, metric string) float64 {
	t.Helper()
	families, err := h.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == metric {
			m := f.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", metric)
	return 0
}

func TestFaultAborts(t *testing.T) {
	versions(t, func(t *testing.T, h2 bool, proto config.HTTPProtocol) {
		addr := backend(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the endpoint was asked") }))
		h := startHop(t, setup{
			hcm:      config.HCM{Routes: faulty(&config.Fault{Status: 418, AbortShare: config.Whole}, nil)},
			clusters: []*config.Cluster{staticCluster("c", proto, addr)},
		})
		resp, err := client(t, h.addr, h2).Post("http://server.bar:8000/", "text/plain", strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 418 || string(body) != "fault filter abort" {
			t.Errorf("status %d, %q, %v", resp.StatusCode, body, err)
		}
		eventually(t, "FI to be counted", func() bool { return counted(t, h, "istio_requests_total", "response_flags", "FI") == 1 })
		if n := value(t, h, "envoy_http_fault_aborts_injected"); n != 1 {
			t.Errorf("%v aborts were counted", n)
		}
	})
}

// TestFaultDelays: the request goes on after the delay as it came, its head and a body that came meanwhile, and none
// of the time is taken for the endpoint's.
func TestFaultDelays(t *testing.T) {
	versions(t, func(t *testing.T, h2 bool, proto config.HTTPProtocol) {
		const size = 1 << 20
		addr := backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			sum, n := digestOf(t, r.Body)
			if n != size {
				t.Errorf("%d bytes came", n)
			}
			w.Header().Set("x-seen", r.Method+" "+r.URL.Path+" "+r.Header.Get("x-mine"))
			_, _ = io.WriteString(w, sum)
		}))
		const delay = 300 * time.Millisecond
		h := startHop(t, setup{
			hcm: config.HCM{Routes: faulty(&config.Fault{Delay: delay, DelayShare: config.Whole}, func(r *config.Route) {
				r.Action.Timeout = 20 * time.Second
				// What is asked of the request after the delay must still be there.
				r.Action.Hash = []config.HashPolicy{{Cookie: &config.HashCookie{Name: "user"}}}
			})},
			clusters: []*config.Cluster{staticCluster("c", proto, addr)},
		})

		source := newNoise(size)
		req, _ := http.NewRequest("POST", "http://server.bar:8000/path", source)
		req.Header.Set("x-mine", strings.Repeat("m", 100))
		began := time.Now()
		resp, err := client(t, h.addr, h2).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		took := time.Since(began)
		if want := "POST /path " + strings.Repeat("m", 100); resp.StatusCode != 200 || resp.Header.Get("x-seen") != want || string(body) != source.digest() {
			t.Errorf("status %d, seen %q", resp.StatusCode, resp.Header.Get("x-seen"))
		}
		if took < delay {
			t.Errorf("it took %v", took)
		}
		eventually(t, "DI to be counted", func() bool { return counted(t, h, "istio_requests_total", "response_flags", "DI") == 1 })
		if n, active := value(t, h, "envoy_http_fault_delays_injected"), value(t, h, "envoy_http_fault_active_faults"); n != 1 || active != 0 {
			t.Errorf("%v delays, %v active", n, active)
		}
	})
}

// TestFaultDelayEndsWithItsCaller: nobody waits for a caller that has gone.
func TestFaultDelayEndsWithItsCaller(t *testing.T) {
	versions(t, func(t *testing.T, h2 bool, proto config.HTTPProtocol) {
		addr := backend(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the endpoint was asked") }))
		h := startHop(t, setup{
			hcm:      config.HCM{Routes: faulty(&config.Fault{Delay: time.Hour, DelayShare: config.Whole}, nil)},
			clusters: []*config.Cluster{staticCluster("c", proto, addr)},
		})
		ctx, leave := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		go func() {
			req, _ := http.NewRequestWithContext(ctx, "GET", "http://server.bar:8000/", nil)
			_, err := client(t, h.addr, h2).Do(req)
			gone <- err
		}()

		active := func() float64 { return value(t, h, "envoy_http_fault_active_faults") }
		eventually(t, "the request to be held up", func() bool { return active() == 1 })
		leave()
		if err := <-gone; err == nil {
			t.Error("it was answered")
		}
		eventually(t, "the delay to end", func() bool { return active() == 0 })
		eventually(t, "DI,DC to be counted", func() bool { return counted(t, h, "istio_requests_total", "response_flags", "DI,DC") == 1 })
	})
}
