package api

import (
	"net/netip"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// checkHost notes what is wrong with a DNS name; wildcards may begin with "*."
// or be "*" when allowWildcard is set.
func (p *problems) checkHost(path, host string, allowWildcard bool) {
	if host == "" {
		p.addf(path, "is empty; give a DNS name")
		return
	}
	if _, err := netip.ParseAddr(host); err == nil {
		p.addf(path, "%q is an IP address; give a DNS name, and list addresses under spec.addresses or spec.endpoints", host)
		return
	}
	name := host
	if strings.HasPrefix(host, "*") {
		if !allowWildcard {
			p.addf(path, "%q is a wildcard, which cannot stand here; give a full DNS name", host)
			return
		}
		if host == "*" {
			return
		}
		name = strings.TrimPrefix(host, "*.")
		if name == host {
			p.addf(path, "%q: a wildcard is *.suffix", host)
			return
		}
	}
	if problems := validation.IsDNS1123Subdomain(strings.ToLower(name)); len(problems) > 0 {
		p.addf(path, "%q is no DNS name: %s", host, problems[0])
	}
}

// checkPort notes a port number out of range.
func (p *problems) checkPort(path string, n uint32) {
	if n < 1 || n > 65535 {
		p.addf(path, "%d is no port; give 1 to 65535", n)
	}
}

// checkExportTo notes entries that are neither ".", "*", "~" nor a namespace.
func (p *problems) checkExportTo(path string, exportTo []string) {
	for i, e := range exportTo {
		if e == "." || e == "*" || e == "~" {
			continue
		}
		if problems := validation.IsDNS1123Label(e); len(problems) > 0 {
			p.addf(indexed(path, i), "%q is none of \".\", \"*\", \"~\" and no namespace: %s", e, problems[0])
		}
	}
}

// checkLabels notes labels that Kubernetes would refuse.
func (p *problems) checkLabels(path string, labels map[string]string) {
	for _, k := range sortedMapKeys(labels) {
		if problems := validation.IsQualifiedName(k); len(problems) > 0 {
			p.addf(path, "%q is no label key: %s", k, problems[0])
		}
		if problems := validation.IsValidLabelValue(labels[k]); len(problems) > 0 {
			p.addf(path+"["+k+"]", "%q is no label value: %s", labels[k], problems[0])
		}
	}
}
