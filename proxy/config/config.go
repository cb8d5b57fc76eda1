// Package config turns Envoy v3 resources (listeners, clusters, load
// assignments, route configurations, virtual hosts) into immutable Go values that the data
// plane runs on.
//
// It is pure: no sockets, no clocks, no files. It is strict: a field that is
// set and not understood, and that could change who may talk to whom or where
// a request goes, makes the resource invalid, with an [Error] that names the
// resource and the field path. Nothing in here changes after it was decoded,
// so values may be shared between goroutines freely.
//
// It is not a general Envoy configuration library: it knows what the built-in
// proxy does, and nothing else.
package config

import "fmt"

// Direction says on which side of the workload a listener stands
// (envoy.config.core.v3.TrafficDirection).
type Direction uint8

// Directions. A gateway's listeners leave it unspecified.
const (
	DirectionUnspecified Direction = iota
	DirectionInbound
	DirectionOutbound
)

// String returns the name used in metrics and logs.
func (d Direction) String() string {
	switch d {
	case DirectionInbound:
		return "inbound"
	case DirectionOutbound:
		return "outbound"
	default:
		return "gateway"
	}
}

// Protocol is what is spoken on a connection, once that is known.
type Protocol uint8

// Protocols. ProtocolUnknown means that nobody looked, or that it could not
// be told.
const (
	ProtocolUnknown Protocol = iota
	ProtocolTCP
	ProtocolHTTP1
	ProtocolHTTP2
)

// String returns the name used in logs.
func (p Protocol) String() string {
	switch p {
	case ProtocolTCP:
		return "tcp"
	case ProtocolHTTP1:
		return "http/1.1"
	case ProtocolHTTP2:
		return "h2"
	default:
		return "unknown"
	}
}

// Service names a mesh service for telemetry; it comes from the filter
// metadata "istio" of a cluster: {services: [{host, name, namespace}]}.
type Service struct {
	Host      string
	Name      string
	Namespace string
}

// Error says why a resource was refused. Field is the path of the field
// inside the resource, in proto names: filter_chains[1].filters[0].typed_config.
type Error struct {
	Kind  string // listener, cluster, load assignment, route configuration, virtual host
	Name  string // resource name; empty when it could not be read
	Field string // empty when the resource as a whole is meant
	Msg   string
}

// Error implements error.
func (e *Error) Error() string {
	s := e.Kind
	if e.Name != "" {
		s = fmt.Sprintf("%s %q", s, e.Name)
	}
	if e.Field != "" {
		return fmt.Sprintf("%s: %s: %s", s, e.Field, e.Msg)
	}
	return fmt.Sprintf("%s: %s", s, e.Msg)
}
