package main

import (
	"net/netip"

	"github.com/isthmus-mesh/isthmus/proxy"
	"github.com/isthmus-mesh/isthmus/proxy/agent"
	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// engine fits the data plane to what the agent asks for.
type engine struct{ *proxy.Proxy }

var _ agent.Engine = engine{}

// listenerState is one listener on the page /listeners.
type listenerState struct {
	Name    string         `json:"name"`
	Address netip.AddrPort `json:"address"`
	// Bound listeners have a socket; the others are reached by original
	// destination.
	Bound bool `json:"bound"`
	// Waiting ones came, and wait for their routes.
	Waiting bool `json:"waiting,omitempty"`
}

// ListenerDump implements agent.Engine.
func (e engine) ListenerDump() any {
	out := []listenerState{}
	add := func(list []*config.Listener, waiting bool) {
		for _, l := range list {
			out = append(out, listenerState{Name: l.Name, Address: l.Address, Bound: l.Bind, Waiting: waiting})
		}
	}
	if d, ok := e.ConfigDump().(proxy.Dump); ok {
		add(d.Listeners, false)
		add(d.Waiting, true)
	}
	return out
}
