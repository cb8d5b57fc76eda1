package api

import (
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"k8s.io/apimachinery/pkg/util/validation"
)

// sidecarFields leaves out listeners of one's own (ingress; port, bind and
// captureMode of egress) and inboundConnectionPool.
var sidecarFields = fieldSet{
	"workloadSelector":      {"labels": nil},
	"egress":                {"hosts": nil},
	"outboundTrafficPolicy": {"mode": nil},
}

func validateSidecar(p *problems, s *networking.Sidecar) {
	p.checkLabels("spec.workloadSelector.labels", s.GetWorkloadSelector().GetLabels())
	if len(s.Egress) > 1 {
		p.addf("spec.egress", "lists %d without a port: one says all; join their hosts", len(s.Egress))
	}
	for i, e := range s.Egress {
		at := indexed("spec.egress", i) + ".hosts"
		if len(e.Hosts) == 0 {
			p.addf(at, "is empty; list NAMESPACE/HOST, or \"~/*\" for nothing")
		}
		for j, host := range e.Hosts {
			p.checkEgressHost(indexed(at, j), host)
			if slices.Contains(e.Hosts[:j], host) {
				p.addf(indexed(at, j), "%q is listed twice", host)
			}
		}
	}

	switch mode := s.GetOutboundTrafficPolicy().GetMode(); mode {
	case networking.OutboundTrafficPolicy_REGISTRY_ONLY, networking.OutboundTrafficPolicy_ALLOW_ANY:
	default:
		p.addf("spec.outboundTrafficPolicy.mode", "%s is unknown; set REGISTRY_ONLY or ALLOW_ANY", mode)
	}
}

// checkEgressHost notes what is wrong with NAMESPACE/HOST of a Sidecar.
func (p *problems) checkEgressHost(path, text string) {
	namespace, host, ok := strings.Cut(text, "/")
	if !ok {
		p.addf(path, "%q has no namespace; write NAMESPACE/HOST, with \"*\" for any namespace and \".\" for the own one", text)
		return
	}
	switch namespace {
	case "*", ".":
	case "~":
		if host != "*" {
			p.addf(path, "%q: \"~\" is no namespace, and leaves nothing; write \"~/*\"", text)
		}
	default:
		if problems := validation.IsDNS1123Label(namespace); len(problems) > 0 {
			p.addf(path, "%q is none of \"*\", \".\", \"~\" and no namespace: %s", namespace, problems[0])
		}
	}
	p.checkHost(path, host, true)
}
