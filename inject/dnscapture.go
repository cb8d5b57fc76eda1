package inject

import (
	"fmt"
	"strconv"
	"strings"
)

// The variables by which DNS is switched, in proxyMetadata of the mesh or of a pod.
//
// Source: https://istio.io/latest/docs/ops/configuration/traffic-management/dns-proxy
const (
	captureDNSEnv  = "ISTIO_META_DNS_CAPTURE"
	allocateDNSEnv = "ISTIO_META_DNS_AUTO_ALLOCATE"
)

// prepareDNS decides whether the pod's queries are led to its sidecar. A gateway has
// no application that would ask.
func (b *builder) prepareDNS() error {
	if b.gateway() {
		return nil
	}
	var err error
	if b.captureDNS, err = b.switchedBy(captureDNSEnv, true); err != nil {
		return err
	}
	allocate, err := b.switchedBy(allocateDNSEnv, true)
	if err != nil {
		return err
	}
	if !allocate {
		b.warnings = append(b.warnings, allocateDNSEnv+"=false has no effect: every ServiceEntry without addresses is given some, for all proxies")
	}
	return nil
}

// switchedBy reads a variable of the proxy's that is true or false: as the pod's own
// container sets it, or as proxyMetadata does. A wrong one of the pod's is refused; one
// of the mesh's is warned of, since no pod could start for it.
func (b *builder) switchedBy(name string, usual bool) (bool, error) {
	if b.own != nil {
		for _, e := range b.own.Env {
			if e.Name == name {
				return parseSwitch(name, e.Value)
			}
		}
	}
	value, set := b.proxyConfig.ProxyMetadata[name]
	if !set {
		return usual, nil
	}

	// Istio's documentation writes quotes into the value, for its own --set.
	on, err := parseSwitch(name, strings.Trim(value, `"'`))
	if mesh, ok := b.settings.proxyConfig().ProxyMetadata[name]; err != nil && ok && mesh == value {
		b.warnings = append(b.warnings, fmt.Sprintf("meshConfig.defaultConfig.proxyMetadata: %v; it is taken as %v", err, usual))
		on, err = usual, nil
	}
	b.proxyConfig.ProxyMetadata[name] = strconv.FormatBool(on)
	return on, err
}

func parseSwitch(name, value string) (bool, error) {
	on, err := strconv.ParseBool(value)
	if err != nil {
		return false, fmt.Errorf("%s=%q: want true or false", name, value)
	}
	return on, nil
}
