package values

import (
	"fmt"
	"maps"
	"slices"

	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/api"
)

// PilotEnv lists the environment variables that discovery reads. Others may be
// set, since a pod may have any, and change nothing.
func PilotEnv() []string {
	return []string{
		"CLUSTER_ID", "DOMAIN_SUFFIX", "GLOBAL_DOMAIN_SUFFIX", "JWT_POLICY", "LOG_FORMAT", "LOG_LEVEL", "NETWORK",
		"POD_NAME", "POD_NAMESPACE", "REVISION", "MAX_WORKLOAD_CERT_TTL", "PILOT_INSECURE_MULTICLUSTER_KUBECONFIG_OPTIONS", "DEFAULT_WORKLOAD_CERT_TTL",
		// The Go runtime's.
		"GODEBUG", "GOGC", "GOMAXPROCS", "GOMEMLIMIT", "GOTRACEBACK",
		// Of Go's HTTP client, by which discovery speaks to the API server.
		"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_DIR", "SSL_CERT_FILE",
	}
}

// idle lists settings that are taken and change nothing.
func (c *Config) idle() []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }

	for _, name := range slices.Sorted(maps.Keys(c.Spec.Values.Pilot.Env)) {
		if !slices.Contains(PilotEnv(), name) {
			say("values.pilot.env.%s: discovery does not read it, so that it changes nothing", name)
		}
	}
	for _, e := range c.Spec.Components.Pilot.K8s.Env {
		// Istio's own profiles set this one, and discovery has its flag.
		if !slices.Contains(PilotEnv(), e.Name) && e.Name != "SERVICE_ACCOUNT" {
			say("components.pilot.k8s.env[name:%s]: discovery does not read it, so that it changes nothing", e.Name)
		}
	}
	for _, w := range c.idleMesh() {
		say("meshConfig.%s", w)
	}
	return out
}

// idleMesh lists what discovery will not take of the mesh configuration, in its
// own words. Unknown keys and wrong values were refused before.
func (c *Config) idleMesh() []string {
	text, err := yaml.Marshal(c.Tree["meshConfig"])
	if err != nil {
		return []string{err.Error()}
	}
	_, warnings, err := api.LoadMeshConfig(string(text))
	if err != nil {
		return []string{err.Error()}
	}
	return warnings
}
