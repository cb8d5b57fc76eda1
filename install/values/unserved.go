package values

import "fmt"

// Unserved returns an error for settings that render well, but ask for what
// this release's discovery does not do yet: an installation with them would
// come up and then send traffic nowhere. It is nil when there are none.
func (c *Config) Unserved() error {
	global := c.Spec.Values.Global
	const instead = "discovery does not read the services of other clusters yet; " +
		"until it does, give each cluster a control plane of its own " +
		"(manifests/examples/multicluster/values-istio-multicluster-gateways.yaml) and one root of trust (isthmus x ca)"
	if global.RemotePilotAddress != "" {
		return fmt.Errorf("values.global.remotePilotAddress: a control plane shared between clusters is not built yet: %s", instead)
	}
	if len(global.MeshNetworks) > 0 {
		return fmt.Errorf("values.global.meshNetworks: gateways between the networks of one control plane are not built yet: %s", instead)
	}
	return nil
}
