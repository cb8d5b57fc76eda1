// Package metrics keeps docs/metrics.md as it is in the code: the test registers
// what the two binaries register, and compares. `go test ./test/metrics -update`
// writes the page anew.
package metrics

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	fakedynamic "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	fakemetadata "k8s.io/client-go/metadata/fake"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/kube"
	"github.com/isthmus-mesh/isthmus/proxy"
	"github.com/isthmus-mesh/isthmus/proxy/agent"
	"github.com/isthmus-mesh/isthmus/proxy/dns"
)

var update = flag.Bool("update", false, "write docs/metrics.md anew")

const page = "../../docs/metrics.md"

const head = `# Metrics

Made from what the code registers: ` + "`go test ./test/metrics -update`" + ` writes this page, and the test fails when it is stale.

Discovery serves its metrics at port 15014, ` + "`/metrics`" + `; a proxy its own at 15090, ` + "`/stats/prometheus`" + `, and, together with the application's, at 15020. Both also give those of the Go runtime and the process (` + "`go_…`, `process_…`" + `). ` + "`isthmus operator` and `isthmus dns`" + ` have those of controller-runtime and of CoreDNS, and none of their own. The names that begin with istio, pilot, citadel and sidecar are Istio's, so that dashboards made for it find them.

Metrics of traffic begin with the same labels, here called *peers*: ` + "`" + peers + "`" + `.
`

func TestPageIsCurrent(t *testing.T) {
	var out bytes.Buffer
	out.WriteString(head)
	for _, part := range []struct {
		title    string
		register func(*testing.T, *recorder)
	}{
		{title: "isthmus-proxy", register: registerProxy},
		{title: "isthmus discovery", register: registerDiscovery},
	} {
		r := &recorder{Registry: prometheus.NewRegistry()}
		part.register(t, r)
		fmt.Fprintf(&out, "\n## %s\n\n| metric | type | labels | what |\n|---|---|---|---|\n", part.title)
		for _, m := range r.metrics(t) {
			fmt.Fprintf(&out, "| `%s` | %s | %s | %s |\n", m.name, m.kind, m.labels, m.help)
		}
	}

	if *update {
		if err := os.WriteFile(page, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, out.Bytes()) {
		t.Error("docs/metrics.md is not what the code registers: go test ./test/metrics -update")
	}
}

// registerProxy makes a proxy that has an application with metrics of its own, so
// that all are registered. Nothing of it runs but what serves the pages, once.
func registerProxy(t *testing.T, r *recorder) {
	cfg := agent.Config{
		Kind:           agent.Sidecar,
		Pod:            "pod",
		Namespace:      "ns",
		ServiceAccount: "default",
		IP:             netip.MustParseAddr("10.0.0.1"),
		Discovery:      "127.0.0.1:1",
		RootFile:       "none",
		TokenFile:      "none",
		StateDir:       t.TempDir(),
		Ports:          agent.Ports{Host: "127.0.0.1"},
		Scrape:         &agent.Scrape{Path: "/metrics", Port: 1},
		DNS:            &agent.DNS{Home: dns.Home{Namespace: "ns", Domain: "cluster.local"}},
		Logger:         slog.New(slog.DiscardHandler),
		Registry:       r,
	}
	var err error
	if cfg.Identity, err = agent.NewIdentity(cfg); err != nil {
		t.Fatal(err)
	}
	p, err := proxy.New(proxy.Config{Identity: cfg.Identity, Registerer: r})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Engine = engine{p}
	a, err := agent.New(cfg)
	if err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(t.Context())
	stop()
	_ = a.Run(ctx)
}

// engine is a proxy without the page of its listeners.
type engine struct{ *proxy.Proxy }

func (engine) ListenerDump() any { return nil }

func (engine) Drill(string, string, time.Duration) error { return nil }
func (engine) EndDrill()                                 {}

// registerDiscovery runs a control plane over a fake API server until all of it is
// served. One setting of its mesh configuration is not in force, so that the metric
// of such objects has a value.
func registerDiscovery(t *testing.T, r *recorder) {
	mesh := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istio"},
		Data:       map[string]string{"mesh": "ingressControllerMode: STRICT"},
	}
	cfg := discovery.Default()
	cfg.Pod = "istiod-1"
	cfg.Clients = kube.Clients{
		Kube:     fake.NewClientset(mesh),
		Dynamic:  fakedynamic.NewSimpleDynamicClient(runtime.NewScheme()),
		Metadata: fakemetadata.NewSimpleMetadataClient(runtime.NewScheme()),
	}
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.Drain = 0
	cfg.Listen = discovery.Addresses{XDS: "127.0.0.1:0", Webhooks: "127.0.0.1:0"}
	cfg.Registry = r
	s, err := discovery.New(cfg)
	if err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})

	// The last to be registered, and the last to have a value.
	for end := time.Now().Add(20 * time.Second); !r.has("sidecar_injection_skip_total") ||
		!r.has("isthmus_config_objects_not_in_force"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not all of discovery is served")
		}
	}
}

// recorder is a registry that remembers what was registered: those that have no
// value yet are not gathered.
type recorder struct {
	*prometheus.Registry

	mu  sync.Mutex // guards all
	all []prometheus.Collector
}

// has tells whether a metric has a value.
func (r *recorder) has(name string) bool {
	families, _ := r.Gather() // what cannot be gathered is not there yet
	return slices.ContainsFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == name })
}

func (r *recorder) note(cs ...prometheus.Collector) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, cs...)
}

// Register implements prometheus.Registerer.
func (r *recorder) Register(c prometheus.Collector) error {
	r.note(c)
	return r.Registry.Register(c)
}

// MustRegister implements prometheus.Registerer.
func (r *recorder) MustRegister(cs ...prometheus.Collector) {
	r.note(cs...)
	r.Registry.MustRegister(cs...)
}

// peers are the labels that all metrics of traffic begin with.
const peers = "reporter,source_workload,source_workload_namespace,source_principal,source_app,source_version," +
	"source_cluster,destination_workload,destination_workload_namespace,destination_principal,destination_app," +
	"destination_version,destination_cluster,destination_service,destination_service_name," +
	"destination_service_namespace,request_protocol,connection_security_policy"

// metric is one row.
type metric struct{ name, kind, labels, help string }

// described is what a Desc says of itself; it says it in no other way.
var described = regexp.MustCompile(`^Desc\{fqName: "([^"]+)", help: "(.*)", unit: ".*", constLabels: \{.*\}, variableLabels: \{(.*)\}\}$`)

// metrics lists what was registered, by name, without those of the runtime.
func (r *recorder) metrics(t *testing.T) []metric {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()

	var out []metric
	for _, c := range r.all {
		descs := make(chan *prometheus.Desc, 1000)
		c.Describe(descs)
		close(descs)
		for d := range descs {
			m := described.FindStringSubmatch(d.String())
			if m == nil {
				t.Fatalf("not understood: %s", d)
			}
			if strings.HasPrefix(m[1], "go_") || strings.HasPrefix(m[1], "process_") {
				continue
			}
			labels := strings.ReplaceAll(strings.Replace(m[3], peers, "peers", 1), ",", ", ")
			out = append(out, metric{name: m[1], kind: kindOf(t, c), labels: labels, help: m[2]})
		}
	}

	slices.SortFunc(out, func(a, b metric) int { return cmp.Compare(a.name, b.name) })
	return out
}

// kindOf is the type of a metric: of a vector by its own, else by a value.
func kindOf(t *testing.T, c prometheus.Collector) string {
	t.Helper()
	switch c.(type) {
	case *prometheus.CounterVec:
		return "counter"
	case *prometheus.GaugeVec:
		return "gauge"
	case *prometheus.HistogramVec:
		return "histogram"
	}

	one := prometheus.NewRegistry()
	one.MustRegister(c)
	families, err := one.Gather()
	if err != nil || len(families) == 0 {
		t.Fatalf("%T: %d families, %v", c, len(families), err)
	}
	return strings.ToLower(families[0].GetType().String())
}
