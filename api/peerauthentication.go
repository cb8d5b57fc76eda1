package api

import (
	"fmt"
	"slices"

	security "istio.io/api/security/v1beta1"
)

var peerAuthenticationFields = fieldSet{
	"selector":      {"matchLabels": nil},
	"mtls":          {"mode": nil},
	"portLevelMtls": {"mode": nil},
}

func validatePeerAuthentication(p *problems, pa *security.PeerAuthentication) {
	p.checkLabels("spec.selector.matchLabels", pa.GetSelector().GetMatchLabels())
	if len(pa.PortLevelMtls) > 0 && len(pa.GetSelector().GetMatchLabels()) == 0 {
		p.addf("spec.portLevelMtls", "needs spec.selector: ports are those of the selected workloads")
	}
	ports := make([]uint32, 0, len(pa.PortLevelMtls))
	for port := range pa.PortLevelMtls {
		ports = append(ports, port)
	}
	slices.Sort(ports)
	for _, port := range ports {
		at := fmt.Sprintf("spec.portLevelMtls[%d]", port)
		p.checkPort(at, port)
		checkMTLSMode(p, at, pa.PortLevelMtls[port])
	}
	checkMTLSMode(p, "spec.mtls", pa.Mtls)
}

func checkMTLSMode(p *problems, path string, m *security.PeerAuthentication_MutualTLS) {
	switch m.GetMode() {
	case security.PeerAuthentication_MutualTLS_UNSET, security.PeerAuthentication_MutualTLS_DISABLE,
		security.PeerAuthentication_MutualTLS_PERMISSIVE, security.PeerAuthentication_MutualTLS_STRICT:
	default:
		p.addf(path+".mode", "%s is unknown; set DISABLE, PERMISSIVE or STRICT", m.GetMode())
	}
}
