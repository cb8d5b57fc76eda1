package values

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	meshv1 "istio.io/api/mesh/v1alpha1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/operator"
)

// defaultCluster is the name of a cluster that was given none.
const defaultCluster = "Kubernetes"

// clusterName is what a cluster may be called: its name becomes a key of the
// Secret by which others read it, and part of that Secret's name.
var clusterName = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?$`)

// CheckClusterName refuses what a cluster cannot be called.
func CheckClusterName(name string) error {
	if !clusterName.MatchString(name) {
		return fmt.Errorf("%q is not a cluster's name: at most 63 letters, digits and dashes, of which a letter or a digit comes first and last", name)
	}
	return nil
}

// ClusterName is what the configuration calls its cluster.
func (c *Config) ClusterName() string {
	if name := c.Spec.Values.Global.MultiCluster.ClusterName; name != "" {
		return name
	}
	return defaultCluster
}

// checkPlaces refuses a document that names a cluster's place in the mesh
// without saying it, as a shell variable that is empty leaves it behind: what
// would be installed is a cluster that stands for itself. Over a document that
// says it, no value takes it away, and is in order.
func checkPlaces(tree operator.Tree, l *operator.Layer) error {
	for _, path := range [][]string{
		{"values", "global", "remotePilotAddress"},
		{"values", "global", "multiCluster", "clusterName"},
		{"values", "global", "network"},
	} {
		parent, key := path[:len(path)-1], path[len(path)-1]
		if l.Empty(path...) && Section(tree, parent...)[key] == nil {
			return fmt.Errorf("%s: there is no value; if it was to come out of a shell variable, that is empty; leave the key out to leave it open", strings.Join(path, "."))
		}
	}
	return nil
}

// checkClusters refuses what cannot hold between clusters.
func (c *Config) checkClusters() error {
	global := c.Spec.Values.Global
	if err := CheckClusterName(c.ClusterName()); err != nil {
		return fmt.Errorf("values.global.multiCluster.clusterName: %w", err)
	}
	if address := global.RemotePilotAddress; address != "" {
		if why := api.AddressProblem(address); why != "" {
			return fmt.Errorf("values.global.remotePilotAddress: %s; it is where this cluster reaches port 15012 of the istiod of another", why)
		}
	}

	if wrong := validation.IsValidLabelValue(global.Network); len(wrong) > 0 {
		return fmt.Errorf("values.global.network: %q does not do as the value of the label topology.istio.io/network: %s", global.Network, wrong[0])
	}

	// An addition has the mesh's settings, and its control plane elsewhere.
	if on := global.ExternalIstiod; on != nil && *on && !c.Spec.Components.Pilot.On() && c.Addition == "" {
		return fmt.Errorf("values.global.externalIstiod: true, and the component pilot is not installed: a cluster whose proxies another's istiod steers still has one of its own, for injection and certificates; turn components.pilot on and set values.global.remotePilotAddress")
	}
	if path := c.Spec.Values.IstiodRemote.InjectionPath; path != "" && path != "/inject" && !injectionPath.MatchString(path) {
		return fmt.Errorf("values.istiodRemote.injectionPath: %q is neither /inject nor /inject/cluster/NAME/net/NETWORK", path)
	}

	nets, wrong, err := c.meshNetworks()
	if err != nil {
		return fmt.Errorf("values.global.meshNetworks: %w", err)
	}
	if len(wrong) > 0 {
		return fmt.Errorf("values.global.meshNetworks.%s", strings.Join(wrong, "\nvalues.global.meshNetworks."))
	}
	if own := networkOf(nets, c.ClusterName()); own != "" && global.Network != "" && own != global.Network {
		return fmt.Errorf("values.global.network: %q, and values.global.meshNetworks has cluster %s in network %q: a cluster is in one network", global.Network, c.ClusterName(), own)
	}
	return nil
}

// clusterDoubts lists what is in order and most likely not meant.
func (c *Config) clusterDoubts() []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }

	global := c.Spec.Values.Global
	switch {
	case global.RemotePilotAddress != "" && global.MultiCluster.ClusterName == "":
		say("values.global.multiCluster.clusterName: not given, so that this cluster is %q: the istiod at remotePilotAddress serves its proxies only when the remote secret of this cluster has that name (isthmus create-remote-secret --name)", defaultCluster)
	case global.RemotePilotAddress == "" && c.Profile == "remote":
		say("values.global.remotePilotAddress: not given, so that the proxies of this cluster are steered by its own istiod and not by that of another cluster")
	}

	nets, _, err := c.meshNetworks()
	if err != nil {
		return out // checkClusters has refused it
	}
	if len(nets.GetNetworks()) > 0 && networkOf(nets, c.ClusterName()) == "" && global.Network == "" {
		say("values.global.meshNetworks: no network has the endpoint fromRegistry: %[1]s, and values.global.network is empty: which network this cluster is in is left to labels, or open", c.ClusterName())
	}
	for _, doubt := range api.MeshNetworksDoubts(nets, global.Network) {
		say("values.global.meshNetworks.%s", doubt)
	}
	return out
}

// meshNetworks reads values.global.meshNetworks as discovery will, and says what
// is wrong in it.
func (c *Config) meshNetworks() (*meshv1.MeshNetworks, []string, error) {
	text, err := json.Marshal(map[string]any{"networks": c.Spec.Values.Global.MeshNetworks})
	if err != nil {
		return nil, nil, err
	}
	return api.LoadMeshNetworks(string(text))
}

// networkOf is the network that a cluster is in by its name; "" when none says
// so.
func networkOf(nets *meshv1.MeshNetworks, cluster string) string {
	for name, n := range nets.GetNetworks() {
		if slices.ContainsFunc(n.Endpoints, func(ep *meshv1.Network_NetworkEndpoints) bool { return ep.GetFromRegistry() == cluster }) {
			return name
		}
	}
	return ""
}
