package drill

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Calls are requests that were answered, and TCP connections that were opened.
type Calls struct {
	Total int `json:"total"`
	// Failed are those that the caller saw fail: an answer of 500 or more, or none
	// though it waited.
	Failed int `json:"failed"`
	// To are those that did not fail, by the cluster that they went to.
	To map[string]int `json:"to"`
}

// Add adds more calls.
func (c *Calls) Add(more Calls) {
	c.Total += more.Total
	c.Failed += more.Failed
	for cluster, n := range more.To {
		if c.To == nil {
			c.To = map[string]int{}
		}
		c.To[cluster] += n
	}
}

// share is the part of the calls that did not fail which went to a cluster.
func (c *Calls) share(cluster string) float64 {
	if c.Total == c.Failed {
		return 0
	}
	return float64(c.To[cluster]) / float64(c.Total-c.Failed)
}

// failing is the part of the calls that failed.
func (c *Calls) failing() float64 {
	if c.Total == 0 {
		return 0
	}
	return float64(c.Failed) / float64(c.Total)
}

// most is the cluster that most calls went to.
func (c *Calls) most() string {
	best := ""
	for _, name := range slices.Sorted(maps.Keys(c.To)) {
		if best == "" || c.To[name] > c.To[best] {
			best = name
		}
	}
	return best
}

// Where says which clusters calls went to, the busiest first.
func (c *Calls) Where() string {
	names := slices.SortedFunc(maps.Keys(c.To), func(a, b string) int {
		return cmp.Or(cmp.Compare(c.To[b], c.To[a]), cmp.Compare(a, b))
	})
	var parts []string
	for _, name := range names {
		parts = append(parts, fmt.Sprintf("%s %.0f%%", name, 100*c.share(name)))
	}
	return cmp.Or(strings.Join(parts, ", "), "none")
}

// outcome tells counters apart.
type outcome struct {
	client  int // its place among the game's
	cluster string
	failed  bool
}

// counted are counters of calls, as they stood at one time.
type counted map[outcome]float64

// since are the calls between two times. A counter that is lower than before is of a
// proxy that was started anew: it counts from nothing.
func (c counted) since(before counted) Calls {
	out := Calls{To: map[string]int{}}
	for key, value := range c {
		n := value - before[key]
		if n < 0 {
			n = value
		}
		if n == 0 {
			continue
		}
		out.Total += int(n)
		if key.failed {
			out.Failed += int(n)
		} else {
			out.To[key.cluster] += int(n)
		}
	}
	return out
}

// read adds the counters of a proxy's metrics page for calls to a host.
func (c counted) read(page io.Reader, client int, host string) error {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(page)
	if err != nil {
		return fmt.Errorf("the page is not of metrics: %w", err)
	}

	for _, name := range [...]string{"istio_requests_total", "istio_tcp_connections_opened_total"} {
		for _, m := range families[name].GetMetric() {
			labels := labelsOf(m)
			if labels["reporter"] != "source" || labels["destination_service"] != host || gaveUp(labels) {
				continue
			}
			c[outcome{client, labels["destination_cluster"], failed(labels)}] += m.GetCounter().GetValue()
		}
	}
	return nil
}

func labelsOf(m *dto.Metric) map[string]string {
	out := make(map[string]string, len(m.GetLabel()))
	for _, l := range m.GetLabel() {
		out[l.GetName()] = l.GetValue()
	}
	return out
}

// gaveUp tells whether the caller itself ended the call: that says nothing of the
// service.
func gaveUp(labels map[string]string) bool { return flagged(labels, "DC") }

// failed tells whether the caller saw the call fail.
func failed(labels map[string]string) bool {
	code := labels["response_code"]
	if code == "" {
		// A TCP connection: Envoy's flags for those that led nowhere.
		return flagged(labels, "UF", "UH", "UO", "NR", "NC")
	}
	return code == "0" || len(code) == 3 && code[0] == '5' || unavailable(labels["grpc_response_status"])
}

// unavailable tells of the gRPC status that a proxy answers with when it reaches
// nobody, or loses who it reached: 14. Others are the application's.
func unavailable(status string) bool { return status == "14" }

// flagged tells whether a call has one of the flags.
func flagged(labels map[string]string, flags ...string) bool {
	for flag := range strings.SplitSeq(labels["response_flags"], ",") {
		if slices.Contains(flags, flag) {
			return true
		}
	}
	return false
}
