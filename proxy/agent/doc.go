// Package agent is what surrounds the data plane in a pod: it gets the
// workload's certificate, follows discovery, answers the kubelet's and the
// scraper's questions, and takes the proxy down gently.
//
// Ports: 15020 status (metrics, application probes, readiness, control), 15021
// readiness, 15090 metrics, and on loopback 15000 for administration and 15053 for DNS. The
// traffic's ports are the [Engine]'s.
//
// It reads no environment: that is for cmd/isthmus-proxy. It moves no traffic.
package agent
