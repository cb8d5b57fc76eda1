package config

// Names for dumps and logs. They are Envoy's, in lower case.

// MarshalText implements encoding.TextMarshaler.
func (d Direction) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// String returns the name of the type.
func (t ClusterType) String() string {
	return nameOf(t, "static", "eds", "strict_dns", "logical_dns", "original_dst")
}

// MarshalText implements encoding.TextMarshaler.
func (t ClusterType) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// String returns the name of the policy.
func (p LBPolicy) String() string {
	return nameOf(p, "round_robin", "least_request", "random", "cluster_provided")
}

// MarshalText implements encoding.TextMarshaler.
func (p LBPolicy) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// String returns the name of the protocol.
func (p HTTPProtocol) String() string { return nameOf(p, "http1", "http2", "use_downstream") }

// MarshalText implements encoding.TextMarshaler.
func (p HTTPProtocol) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// String returns where a certificate or bundle comes from.
func (s CertSource) String() string { return nameOf(s, "none", "mesh", "inline", "system") }

// MarshalText implements encoding.TextMarshaler.
func (s CertSource) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func nameOf[T ~uint8](v T, names ...string) string {
	if int(v) < len(names) {
		return names[v]
	}
	return "unknown"
}
