package agent

import (
	"path/filepath"
	"time"

	"github.com/isthmus-mesh/isthmus/xds/fetch"
)

// keptFile is the file of the configuration in the state directory, beside the
// certificate's.
const keptFile = "configuration.gz"

// keep says how the configuration survives the proxy: like the certificate, in the
// pod's own volume. It ends with the certificate under which discovery sent it: a
// proxy whose workload was cut off must not live on by restarts.
func (a *Agent) keep() *fetch.Keep {
	if a.cfg.StateDir == "" {
		return nil
	}
	return &fetch.Keep{
		File: filepath.Join(a.cfg.StateDir, keptFile),
		// A pod that has another address is sent other listeners.
		Owner: a.id.ID().String() + " " + a.cfg.nodeID() + " " + a.cfg.Meta["CLUSTER_ID"],
		Until: a.keepUntil,
	}
}

// keepUntil is when the certificate expires; zero until all that the first
// configuration is made of is there: half of it would send requests astray.
func (a *Agent) keepUntil() time.Time {
	cert := a.id.Certificate()
	if cert == nil || a.engine.Ready() != nil || a.names.ready() != nil {
		return time.Time{}
	}
	return cert.Leaf.NotAfter
}
