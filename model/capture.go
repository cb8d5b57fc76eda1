package model

import "slices"

// Capture says on which of a pod's ports the proxy beside it takes connections
// over. What comes to any other port reaches the application as it was sent.
// The zero Capture, and nil, is every port but those of the proxy itself.
type Capture struct {
	// Some tells that only the ports in Only are taken over.
	Some bool
	Only []uint16
	// Except are ports that are not taken over.
	Except []uint16
}

// Takes tells whether connections to the port pass through the proxy.
func (c *Capture) Takes(port uint16) bool {
	switch {
	case proxyOwn(port):
		return false
	case c == nil:
		return true
	case slices.Contains(c.Except, port):
		return false
	}
	return !c.Some || slices.Contains(c.Only, port)
}

// proxyOwn are the ports on which the proxy itself answers, in plaintext:
// metrics, probes, health. They are never redirected (proxy/redirect.OwnPorts).
func proxyOwn(port uint16) bool {
	return port == 15008 || port == 15020 || port == 15021 || port == 15090
}
