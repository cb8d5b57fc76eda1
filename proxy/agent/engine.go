package agent

import (
	"context"
	"time"

	"github.com/isthmus-mesh/isthmus/xds/fetch"
)

// Engine is the data plane, as the agent sees it.
type Engine interface {
	fetch.Handler

	// Run opens the listeners and serves until ctx ends, then closes
	// everything and returns nil.
	Run(ctx context.Context) error

	// Drain tells connections to end at their next good moment. It returns at
	// once, and new connections are still taken.
	Drain()

	// DrainInbound does so for all but the connections of the proxy's own
	// application.
	DrainInbound()

	// Active counts the open connections of clients.
	Active() int64

	// Ready is nil once the first configuration is in force, and says else
	// what is missing.
	Ready() error

	// ConfigDump is the configuration in force, ClusterDump the clusters with
	// their endpoints as they are, ListenerDump a short list of listeners:
	// values to be written as JSON, for administration.
	ConfigDump() any
	ClusterDump() any
	ListenerDump() any

	// Drill fails the endpoints of a host that are in one cluster, for a time; see
	// proxy.Drill. EndDrill ends it before.
	Drill(host, cluster string, lease time.Duration) error
	EndDrill()
}
