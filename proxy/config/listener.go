package config

import (
	"net/netip"
	"time"
)

// Listener is one envoy.config.listener.v3.Listener.
type Listener struct {
	Name      string
	Address   netip.AddrPort
	Direction Direction
	// Bind tells whether the listener has a socket of its own. One without
	// (bind_to_port false) is reached through the original destination.
	Bind bool
	// UseOriginalDst makes connections go to the listener of the same
	// direction whose address is their original destination, where there is
	// one. RestoreDst (filter original_dst) only takes that destination as
	// the local address.
	UseOriginalDst bool
	RestoreDst     bool
	// InspectTLS and InspectHTTP look at the first bytes, before a filter
	// chain is chosen.
	InspectTLS  bool
	InspectHTTP bool
	// InspectTimeout bounds the wait for those bytes. Zero: no bound.
	InspectTimeout time.Duration
	// ContinueOnTimeout goes on with what is known when the time is over
	// (protocols in which the server speaks first); else the connection is
	// closed.
	ContinueOnTimeout bool
	Chains            []*FilterChain
	Default           *FilterChain // nil: a connection that matches nothing is closed
	// Version identifies the content: equal versions, equal listeners.
	Version string
}

// RouteNames returns the names of the route configurations (RDS) that the
// listener needs, without duplicates, in order of appearance.
func (l *Listener) RouteNames() []string {
	var names []string
	seen := map[string]bool{}
	for _, c := range l.AllChains() {
		if c.HTTP == nil || c.HTTP.RouteName == "" || seen[c.HTTP.RouteName] {
			continue
		}
		seen[c.HTTP.RouteName] = true
		names = append(names, c.HTTP.RouteName)
	}
	return names
}

// SecretNames returns the names of the Secrets (SDS) that the listener needs.
func (l *Listener) SecretNames() []string {
	var names []string
	for _, c := range l.AllChains() {
		if c.TLS != nil {
			names = append(names, c.TLS.SecretNames()...)
		}
	}
	return names
}

// AllChains returns every chain, the default one last.
func (l *Listener) AllChains() []*FilterChain {
	all := append([]*FilterChain(nil), l.Chains...)
	if l.Default != nil {
		all = append(all, l.Default)
	}
	return all
}

// FilterChain is what happens to connections that match: optional TLS
// termination, then exactly one of HTTP and TCP.
type FilterChain struct {
	Name  string
	Match ChainMatch
	TLS   *DownstreamTLS // nil: plaintext
	HTTP  *HCM
	TCP   *TCPProxy
	// ConnAccess is asked about each connection of TCP, in this order.
	ConnAccess []*AccessFilter
	// HandshakeTimeout bounds TLS termination.
	HandshakeTimeout time.Duration
	// Version identifies the chain's content. Access identifies what a peer
	// has to prove before it is let in; empty for plaintext. ConnAccess decides
	// beside it.
	Version string
	Access  string
}

// ChainMatch is envoy.config.listener.v3.FilterChainMatch. Empty criteria
// match everything.
type ChainMatch struct {
	DestinationPort      uint16 // 0: any
	PrefixRanges         []netip.Prefix
	ServerNames          []string // lower case; "*.example.com" matches any depth below
	TransportProtocol    string   // "", "tls", "raw_buffer"
	ApplicationProtocols []string
}

// TCPProxy is envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, with
// the sni_cluster filter folded in.
type TCPProxy struct {
	Cluster  string
	Weighted []WeightedCluster // instead of Cluster
	// SNICluster names the cluster by the SNI of the connection.
	SNICluster bool
	// IdleTimeout closes a connection on which nothing moved for so long.
	// Zero: never.
	IdleTimeout time.Duration
	// MaxAge closes a connection that is so old (max_downstream_connection_duration).
	// Zero: never.
	MaxAge time.Duration
	// MaxConnectAttempts is how many endpoints are tried; 0 leaves it to the
	// proxy.
	MaxConnectAttempts uint32
	// HashSource has the client's address decide which endpoint a connection goes to,
	// where the cluster goes by that (hash_policy source_ip).
	HashSource bool
	AccessLogs []AccessLog
}

// WeightedCluster is one share of a split.
type WeightedCluster struct {
	Cluster string
	Weight  uint32
}

// AccessLog is a file access log. The path /dev/stdout is the usual one.
type AccessLog struct {
	Path string
	// Text is the format of a line; empty with JSON nil means the default
	// format.
	Text string
	// JSON is the object logged, format strings by key, instead of Text.
	JSON map[string]string
}
