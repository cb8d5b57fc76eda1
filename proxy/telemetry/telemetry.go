// Package telemetry counts what the data plane does, as Prometheus metrics under
// Istio's names and labels (istio_requests_total and others), and writes access
// logs in Envoy's default text format, in a given text format or as JSON.
//
// Handles are looked up once per pair of workloads and cached by the caller, so
// that one request costs a few atomic additions and no label hashing. The
// package knows nothing of HTTP parsing, routing or sockets, and it keeps no
// per-request state.
package telemetry

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/mtls"
)

// Unknown is the label value for what is not known.
const Unknown = "unknown"

// Reporter says which side of a call reports it.
type Reporter string

// Reporters.
const (
	Source      Reporter = "source"
	Destination Reporter = "destination"
)

// Party is one end of a call. Empty fields are reported as "unknown".
type Party struct {
	Workload  string
	Namespace string
	App       string
	Version   string
	Cluster   string
	Principal string // SPIFFE id, proven by mTLS; empty without
}

// PartyOf describes the workload behind an endpoint; principal is empty when the
// connection is not mTLS.
func PartyOf(w config.Workload, principal string) Party {
	return Party{
		Workload: w.Name, Namespace: w.Namespace, App: w.App, Version: w.Version,
		Cluster: w.Cluster, Principal: principal,
	}
}

// PeerParty describes a caller of whom only the SPIFFE id is known: its
// namespace comes from the id.
func PeerParty(principal string) Party {
	p := Party{Principal: principal}
	if _, rest, ok := strings.Cut(principal, "/ns/"); ok {
		p.Namespace, _, _ = strings.Cut(rest, "/")
	}
	return p
}

// Stream is all that stays the same over the requests or connections between
// two parties.
type Stream struct {
	Reporter    Reporter
	Source      Party
	Destination Party
	Service     config.Service
	Protocol    string // http, grpc or tcp
	MTLS        bool
}

// streamLabels are the labels that a Stream decides.
func streamLabels() []string {
	return []string{
		"reporter",
		"source_workload", "source_workload_namespace", "source_principal", "source_app",
		"source_version", "source_cluster",
		"destination_workload", "destination_workload_namespace", "destination_principal", "destination_app",
		"destination_version", "destination_cluster",
		"destination_service", "destination_service_name", "destination_service_namespace",
		"request_protocol", "connection_security_policy",
	}
}

// values are the values of streamLabels, and extra ones behind them.
func (s *Stream) values(extra ...string) []string {
	policy := "none"
	if s.MTLS {
		policy = "mutual_tls"
	}

	v := make([]string, 0, 24)
	v = append(v, string(s.Reporter))
	v = s.Source.values(v)
	v = s.Destination.values(v)
	v = append(v, s.Service.Host, s.Service.Name, s.Service.Namespace, s.Protocol, policy)
	v = append(v, extra...)

	for i := range v {
		if v[i] == "" {
			v[i] = Unknown
		}
	}
	return v
}

func (p *Party) values(v []string) []string {
	return append(v, p.Workload, p.Namespace, p.Principal, p.App, p.Version, p.Cluster)
}

// Metrics holds every metric of a proxy. It is safe for concurrent use.
type Metrics struct {
	requests                                     *prometheus.CounterVec
	requestDuration, requestBytes, responseBytes *prometheus.HistogramVec

	tcpSent, tcpReceived, tcpOpened, tcpClosed *prometheus.CounterVec

	active      *prometheus.GaugeVec
	noChain     *prometheus.CounterVec
	overLimit   *prometheus.CounterVec
	tlsFailures *prometheus.CounterVec
	xdsRejected *prometheus.CounterVec
	ownRefused  *prometheus.CounterVec
	httpAccess  accessMetrics
	tcpAccess   accessMetrics
	faults      faultMetrics
	mirrored    *prometheus.CounterVec
	clusters    clusterMetrics

	http sync.Map // Stream → *HTTP
	tcp  sync.Map // tcpKey → *TCP
}

// New registers the metrics of a proxy with reg.
func New(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{}
	m.makeHTTP()
	m.makeTCP()
	m.makeOwn()
	m.clusters = newClusterMetrics()
	m.httpAccess, m.tcpAccess = newAccessMetrics("http", "Requests"), newAccessMetrics("tcp", "Connections")
	m.faults = newFaultMetrics()
	m.mirrored = newMirrored()

	for _, c := range append(slices.Concat(m.clusters.all(), m.httpAccess.all(), m.tcpAccess.all(), m.faults.all()),
		m.requests, m.requestDuration, m.requestBytes, m.responseBytes,
		m.tcpSent, m.tcpReceived, m.tcpOpened, m.tcpClosed,
		m.active, m.noChain, m.overLimit, m.tlsFailures, m.xdsRejected, m.ownRefused,
		m.mirrored,
	) {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register a proxy metric: %w", err)
		}
	}
	return m, nil
}

// makeHTTP makes Istio's metrics of requests
// (https://istio.io/latest/docs/reference/config/metrics/).
func (m *Metrics) makeHTTP() {
	labels := append(streamLabels(), "response_code", "response_flags", "grpc_response_status")
	m.requests = counter("istio_requests_total",
		"Requests that were answered, by the proxy or behind it.", labels)
	m.requestDuration = histogram("istio_request_duration_milliseconds",
		"Time from the first byte of a request to the last byte of its response.", labels)
	m.requestBytes = histogram("istio_request_bytes",
		"Size of request bodies.", labels)
	m.responseBytes = histogram("istio_response_bytes",
		"Size of response bodies.", labels)
}

// makeTCP makes Istio's metrics of TCP connections.
func (m *Metrics) makeTCP() {
	labels := append(streamLabels(), "response_flags")
	m.tcpSent = counter("istio_tcp_sent_bytes_total",
		"Bytes sent to callers of TCP connections.", labels)
	m.tcpReceived = counter("istio_tcp_received_bytes_total",
		"Bytes received from callers of TCP connections.", labels)
	m.tcpOpened = counter("istio_tcp_connections_opened_total",
		"TCP connections opened.", labels)
	m.tcpClosed = counter("istio_tcp_connections_closed_total",
		"TCP connections closed.", labels)
}

// makeOwn makes the metrics that Istio has not.
func (m *Metrics) makeOwn() {
	m.active = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "isthmus_proxy_connections_active",
		Help: "Downstream connections open now.",
	}, []string{"direction"})

	m.noChain = counter("isthmus_proxy_no_filter_chain_total",
		"Connections closed because no filter chain fits.", []string{"listener"})
	m.overLimit = counter("isthmus_proxy_connections_refused_total",
		"Connections refused because as many are open as there is memory for.", []string{"listener"})
	m.tlsFailures = counter("isthmus_proxy_tls_handshake_failures_total",
		"TLS handshakes that failed, by reason.", []string{"side", "reason"})
	m.xdsRejected = counter("isthmus_proxy_xds_resources_rejected_total",
		"xDS resources that were rejected, by type.", []string{"type"})
	m.ownRefused = counter("isthmus_proxy_own_listener_refused_total",
		"Connections refused because the endpoint is the proxy's own listener.", []string{"cluster"})
}

func counter(name, help string, labels []string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func histogram(name, help string, labels []string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: name,
		Help: help,
		// The bounds that dashboards made for Istio expect.
		Buckets: []float64{
			0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000,
			60000, 300000, 600000, 1800000, 3600000,
		},
	}, labels)
}

// Side says with whom a TLS handshake was.
type Side string

// Sides.
const (
	Downstream Side = "downstream" // a peer that connected to a listener
	Upstream   Side = "upstream"   // an endpoint
)

// TLSFailed counts a failed handshake.
func (m *Metrics) TLSFailed(side Side, reason mtls.Reason) {
	m.tlsFailures.WithLabelValues(string(side), string(reason)).Inc()
}

// OwnListenerRefused counts a connection that would have gone to the proxy
// itself.
func (m *Metrics) OwnListenerRefused(cluster string) { m.ownRefused.WithLabelValues(cluster).Inc() }

// XDSRejected counts a rejected resource of a type such as "cluster" or
// "listener".
func (m *Metrics) XDSRejected(kind string) { m.xdsRejected.WithLabelValues(kind).Inc() }
