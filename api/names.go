package api

import (
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// PlainHost is the form in which host names are compared: lower case, without
// the dot that ends an absolute name.
func PlainHost(host string) string {
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

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
	name := PlainHost(host)
	if suffix, wildcard := strings.CutPrefix(name, "*"); wildcard {
		if !allowWildcard {
			p.addf(path, "%q is a wildcard, which cannot stand here; give a full DNS name", host)
			return
		}
		if suffix == "" {
			return
		}
		// The star stands for labels, or for the beginning of the first:
		// *.foo.com, *-api.foo.com.
		name = strings.TrimPrefix(suffix, ".")
		if partial := name == suffix; partial {
			name = "x" + suffix
		}
	}
	if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
		p.addf(path, "%q is no DNS name: %s", host, problems[0])
	}
}

// checkPort notes a port number out of range.
func (p *problems) checkPort(path string, n uint32) {
	if n < 1 || n > 65535 {
		p.addf(path, "%d is no port; give 1 to 65535", n)
	}
}

// checkExportTo notes entries that are neither ".", "*", "~" nor a namespace,
// and lists that contradict themselves. hidden tells whether "~", nowhere, has a
// meaning for the kind.
func (p *problems) checkExportTo(path string, exportTo []string, hidden bool) {
	for i, e := range exportTo {
		at := indexed(path, i)
		switch {
		case e == "~" && !hidden:
			p.addf(at, "\"~\" would leave the object without any effect; delete the object, or give \".\", \"*\" or a namespace")
		case (e == "*" || e == "~") && len(exportTo) > 1:
			p.addf(at, "%q cannot stand beside other entries; it says already who sees the object", e)
		case e == ".", e == "*", e == "~":
		default:
			if problems := validation.IsDNS1123Label(e); len(problems) > 0 {
				p.addf(at, "%q is none of \".\", \"*\", \"~\" and no namespace: %s", e, problems[0])
			}
		}
		if slices.Contains(exportTo[:i], e) {
			p.addf(at, "%q is listed twice", e)
		}
	}
}

// checkPortName notes a name that is no DNS label, which Istio refuses too;
// capitals are taken.
func (p *problems) checkPortName(path, name string) {
	if problems := validation.IsDNS1123Label(strings.ToLower(name)); len(problems) > 0 {
		p.addf(path, "%q is no port name: %s", name, problems[0])
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
