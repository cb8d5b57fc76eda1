package telemetry

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/proxy/access"
)

// accessMetrics count what the rules of AuthorizationPolicies say, as Envoy's rbac
// filters do: allowed and denied, and what rules of a dry run would have said.
type accessMetrics struct{ allowed, denied, shadowAllowed, shadowDenied *prometheus.CounterVec }

// newAccessMetrics makes those of a protocol; what are its requests or connections.
func newAccessMetrics(protocol, what string) accessMetrics {
	name := func(of string) string { return "envoy_" + protocol + "_rbac_" + of }
	labels := []string{"authz_dry_run_action"}
	return accessMetrics{
		allowed:       counter(name("allowed"), what+" that an AuthorizationPolicy was asked about and let pass.", nil),
		denied:        counter(name("denied"), what+" that an AuthorizationPolicy refused.", nil),
		shadowAllowed: counter(name("shadow_allowed"), what+" that policies of a dry run would have let pass.", labels),
		shadowDenied:  counter(name("shadow_denied"), what+" that policies of a dry run would have refused.", labels),
	}
}

func (m *accessMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.allowed, m.denied, m.shadowAllowed, m.shadowDenied}
}

// counts are those of a filter. Its shadow rules have a prefix such as
// istio_dry_run_allow_, of which the action is a label.
func (m *accessMetrics) counts(shadowPrefix string) access.Counts {
	action := strings.TrimSuffix(strings.TrimPrefix(shadowPrefix, "istio_dry_run_"), "_")
	c := access.Counts{Allowed: m.allowed.WithLabelValues(), Denied: m.denied.WithLabelValues()}
	if shadowPrefix != "" {
		c.ShadowAllowed, c.ShadowDenied = m.shadowAllowed.WithLabelValues(action), m.shadowDenied.WithLabelValues(action)
	}
	return c
}

// HTTPAccess gives the counters of a filter that is asked about requests.
func (m *Metrics) HTTPAccess(shadowPrefix string) access.Counts {
	return m.httpAccess.counts(shadowPrefix)
}

// TCPAccess gives the counters of a filter that is asked about connections.
func (m *Metrics) TCPAccess(shadowPrefix string) access.Counts {
	return m.tcpAccess.counts(shadowPrefix)
}
