package model

import "net/netip"

// ConnectionRoute is where connections go that satisfy one of its conditions.
type ConnectionRoute struct {
	// Matches are the conditions; none is satisfied by every connection.
	Matches []ConnectionMatch
	// Destinations share the connections by their weights. They edit no header fields.
	Destinations []WeightedDestination
}

// ConnectionMatch is a condition on a connection, all parts of which must hold.
type ConnectionMatch struct {
	// ServerNames are those of TLS that the client asks for: exact, *.suffix or *;
	// none: any connection.
	ServerNames []string
	// Subnets are those of which one has the address that the client calls; none: any.
	Subnets []netip.Prefix
	// Port and Namespace are those that the client calls, and is in; zero: any.
	Port      uint16
	Namespace string
	// Gateways are those of the object's for whose connections the condition is made;
	// none: all of them.
	Gateways []string
}
