package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
	"github.com/isthmus-mesh/isthmus/proxy/outcome"
)

func newTelemetry(t *testing.T, w io.Writer) (*Telemetry, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewRegistry()
	tel, err := NewTelemetry(Config{
		Registerer: reg, OpenLog: func(string) (io.Writer, error) { return w, nil },
		Self: Party{Workload: "me", Namespace: "foo", Principal: "spiffe://td/ns/foo/sa/me"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return tel, reg
}

func TestRecordCountsUnderIstioNames(t *testing.T) {
	tel, reg := newTelemetry(t, io.Discard)
	info := &downstream.Info{Direction: config.DirectionOutbound}
	h := tel.HTTPFor(info, nil, nil, "", true)
	if h != tel.HTTPFor(info, nil, nil, "", true) {
		t.Error("equal streams have different handles")
	}
	for range 2 {
		h.Record(&outcome.Request{Code: 200, GRPC: 14, Duration: 3 * time.Millisecond, Received: 10, Sent: 20})
	}
	h.Record(&outcome.Request{Code: 503, Flag: outcome.NoHealthyUpstream, GRPC: outcome.NoGRPCStatus})
	common := map[string]string{"reporter": "source", "source_workload": "me", "destination_service": "unknown", "request_protocol": "grpc", "connection_security_policy": "none"}
	for _, tt := range []struct {
		code, flags, grpc string
		want              float64
	}{{"200", "-", "14", 2}, {"503", "UH", "", 1}, {"200", "UH", "14", 0}} {
		labels := maps.Clone(common)
		labels["response_code"], labels["response_flags"], labels["grpc_response_status"] = tt.code, tt.flags, tt.grpc
		for name, per := range map[string]float64{
			"istio_requests_total": 1, "istio_request_duration_milliseconds": 1, "istio_request_bytes": 1, "istio_response_bytes": 1,
		} {
			if got := value(t, reg, name, labels); got != tt.want*per {
				t.Errorf("%s of %v is %v, want %v", name, labels, got, tt.want*per)
			}
		}
	}
}

// TestServersCannotMakeSeriesWithoutEnd: the numbers that gRPC does not know
// count together.
func TestServersCannotMakeSeriesWithoutEnd(t *testing.T) {
	tel, reg := newTelemetry(t, io.Discard)
	info := &downstream.Info{Direction: config.DirectionOutbound}
	grpc, plain := tel.HTTPFor(info, nil, nil, "", true), tel.HTTPFor(info, nil, nil, "", false)
	for status := outcome.NoGRPCStatus; status < 1000; status++ {
		grpc.Record(&outcome.Request{Code: 200, GRPC: status})
		plain.Record(&outcome.Request{Code: 200, GRPC: status})
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		// gRPC without a status, 0 to 16, all others; and plain HTTP.
		if f.GetName() == "istio_requests_total" && len(f.Metric) != 1+17+1+1 {
			t.Errorf("%d series, want 20", len(f.Metric))
		}
	}
	labels := map[string]string{"request_protocol": "grpc", "grpc_response_status": "other"}
	if got := value(t, reg, "istio_requests_total", labels); got != 983 {
		t.Errorf("%v requests with another status, want 983", got)
	}
	kept := 0
	plain.all.Range(func(any, any) bool { kept++; return true })
	if kept != 1 {
		t.Errorf("%d outcomes of plain HTTP are kept, want 1", kept)
	}
}

func TestRecordDoesNotAllocate(t *testing.T) {
	tel, _ := newTelemetry(t, io.Discard)
	h := tel.HTTPFor(&downstream.Info{}, nil, nil, "", false)
	o := &outcome.Request{Code: 200, GRPC: outcome.NoGRPCStatus}
	h.Record(o)
	if n := testing.AllocsPerRun(100, func() { h.Record(o) }); n != 0 {
		t.Errorf("%v allocations per request", n)
	}
}

func TestTCPRecord(t *testing.T) {
	var log bytes.Buffer
	tel, reg := newTelemetry(t, &log)
	info := &downstream.Info{Direction: config.DirectionOutbound, Start: time.Now(), Peer: netip.MustParseAddrPort("10.0.0.1:99")}
	open, err := tel.TCPFor(&config.TCPProxy{AccessLogs: []config.AccessLog{{
		Path: "x",
		Text: "%RESPONSE_FLAGS% %BYTES_RECEIVED%/%BYTES_SENT% %DOWNSTREAM_REMOTE_ADDRESS% %PROTOCOL%\n",
	}}})
	if err != nil {
		t.Fatal(err)
	}
	r := open(info, nil)
	r.Add(3, 5)
	r.Add(1, 0)
	r.Close(outcome.NoHealthyUpstream)
	tel.logs.flush()
	if got, want := log.String(), "UH 4/5 10.0.0.1:99 -\n"; got != want {
		t.Errorf("log %q, want %q", got, want)
	}
	for name, want := range map[string]float64{
		"istio_tcp_sent_bytes_total":         5,
		"istio_tcp_received_bytes_total":     4,
		"istio_tcp_connections_opened_total": 1,
		"istio_tcp_connections_closed_total": 1,
	} {
		if got := value(t, reg, name, nil); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

// value adds up the series of a metric that carry the labels: counts of
// histograms, values of all others.
func value(t *testing.T, reg *prometheus.Registry, name string, labels map[string]string) (total float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			have := map[string]string{}
			for _, l := range m.GetLabel() {
				have[l.GetName()] = l.GetValue()
			}
			match := true
			for k, v := range labels {
				match = match && have[k] == v
			}
			if match {
				total += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return total
}

func TestPeerParty(t *testing.T) {
	if p := PeerParty("spiffe://td/ns/foo/sa/bar"); p.Namespace != "foo" || p.Principal == "" || p.Workload != "" {
		t.Errorf("%+v", p)
	}
	if p := PeerParty(""); p != (Party{}) {
		t.Errorf("%+v", p)
	}
}

func TestDefaultFormat(t *testing.T) {
	var log bytes.Buffer
	tel, _ := newTelemetry(t, &log)
	a, err := tel.AccessLog([]config.AccessLog{{Path: "x"}})
	if err != nil {
		t.Fatal(err)
	}
	e := &Entry{
		Info: &downstream.Info{}, Start: time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC), Method: "GET", Path: "/a", Authority: "b",
		Protocol: "HTTP/1.1", Code: 200, Flags: "-", GRPC: outcome.NoGRPCStatus, Received: 1, Sent: 2,
		Upstream: netip.MustParseAddrPort("10.0.0.2:80"), RequestHeaders: make([]string, len(a.RequestHeaders())),
	}
	for i, n := range a.RequestHeaders() {
		if n == "user-agent" {
			e.RequestHeaders[i] = "curl"
		}
	}
	a.Write(e)
	tel.logs.flush()
	got := log.String()
	if !strings.HasPrefix(got, `[2026-01-02T03:04:05.006Z] "GET /a HTTP/1.1" 200 - 1 2 `) || !strings.HasSuffix(got, ` - "-" "curl" "-" "b" "10.0.0.2:80"`+"\n") {
		t.Errorf("got %q", got)
	}
}

func TestFormatErrors(t *testing.T) {
	tel, _ := newTelemetry(t, io.Discard)
	for _, text := range []string{"%NO_SUCH%", "%REQ(x", "%REQ(x)", "100%", "%START_TIME(%s)%", "%REQ(x):10%"} {
		if _, err := tel.AccessLog([]config.AccessLog{{Path: "x", Text: text}}); err == nil {
			t.Errorf("format %q was accepted", text)
		}
	}
	if _, err := tel.AccessLog([]config.AccessLog{{
		Path: "x",
		JSON: map[string]string{"a": "%NO_SUCH%"},
	}}); err == nil {
		t.Error("a JSON format with an unknown operator was accepted")
	}
	if _, err := tel.TCPFor(&config.TCPProxy{AccessLogs: []config.AccessLog{{
		Path: "x",
		Text: "%NO_SUCH%",
	}}}); err == nil {
		t.Error("a TCP proxy's format with an unknown operator was accepted")
	}
}

func TestJSONQuotes(t *testing.T) {
	var log bytes.Buffer
	tel, _ := newTelemetry(t, &log)
	a, err := tel.AccessLog([]config.AccessLog{{Path: "x", JSON: map[string]string{
		`k"1`: "%REQ(:PATH)%", "code": "%RESPONSE_CODE%", "none": "%UPSTREAM_HOST%", "mix": "%PROTOCOL% 100%%",
	}}})
	if err != nil {
		t.Fatal(err)
	}
	a.Write(&Entry{Info: &downstream.Info{}, Path: "/\"\xff\n", Code: 204, Protocol: "HTTP/2"})
	tel.logs.flush()
	var got map[string]any
	if err := json.Unmarshal(log.Bytes(), &got); err != nil {
		t.Fatalf("%v in %q", err, log.String())
	}
	if got["code"] != 204.0 || got["none"] != nil || got["mix"] != "HTTP/2 100%" || got[`k"1`] != "/\"\ufffd\n" {
		t.Errorf("got %v", got)
	}
}

func TestRunFlushesAtTheEnd(t *testing.T) {
	var log bytes.Buffer
	tel, _ := newTelemetry(t, &log)
	a, err := tel.AccessLog([]config.AccessLog{{Path: "x", Text: "line\n"}})
	if err != nil {
		t.Fatal(err)
	}
	a.Write(NewEntry(&downstream.Info{}))
	if log.Len() != 0 {
		t.Error("a single line is not worth a write of its own")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := tel.Run(ctx); err != nil || log.String() != "line\n" {
		t.Errorf("%v, log %q", err, log.String())
	}
}

func FuzzFormat(f *testing.F) {
	f.Add("%REQ(X?:PATH)% %RESP(A)% %% %DURATION%")
	f.Fuzz(func(t *testing.T, text string) {
		a := &AccessLog{}
		p, err := parsePieces(text, a)
		if err != nil {
			return
		}
		appendPieces(nil, p, &Entry{Info: &downstream.Info{}}, time.Time{})
	})
}
