package ca

import "github.com/prometheus/client_golang/prometheus"

// metrics bear the names that Istio's dashboards and alerts know.
type metrics struct {
	requests, issued    prometheus.Counter
	refused, authFailed prometheus.Counter
	badSecret           prometheus.Counter
	rootExpiry          prometheus.Gauge
	signingExpiry       prometheus.Gauge
	published           *prometheus.CounterVec
}

// newMetrics makes the metrics, and registers them when reg is not nil.
func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}

	m := &metrics{
		requests:      counter("citadel_server_csr_count", "Certificate requests received."),
		issued:        counter("citadel_server_success_cert_issuance_count", "Certificates issued."),
		refused:       counter("citadel_server_csr_sign_err_count", "Certificate requests refused or failed after authentication."),
		authFailed:    counter("citadel_server_authentication_failure_count", "Callers whose identity could not be proven."),
		badSecret:     counter("isthmus_ca_secret_refused_total", "Edits of the Secret cacerts that were wrong and not put into force."),
		rootExpiry:    gauge("citadel_server_root_cert_expiry_timestamp", "When the root expires, in seconds since 1970."),
		signingExpiry: gauge("citadel_server_cert_chain_expiry_timestamp", "When the signing certificate expires, in seconds since 1970."),
		published: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_ca_root_config_maps_total", Help: "Writes of the root into namespaces, by result.",
		}, []string{"result"}),
	}

	if reg != nil {
		reg.MustRegister(m.requests, m.issued, m.refused, m.authFailed, m.badSecret, m.rootExpiry, m.signingExpiry, m.published)
	}
	return m
}
