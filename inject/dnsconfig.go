package inject

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// namespacePlaceholder matches the one template expression that Istio's charts
// use in podDNSSearchNamespaces, in either of its two spellings.
var namespacePlaceholder = regexp.MustCompile(`(\{\{|\[\[)\s*(valueOrDefault\s+)?\.DeploymentMeta\.Namespace(\s+\\?"[^"\\]*\\?")?\s*(\}\}|\]\])`)

// searchDomains turns one entry of podDNSSearchNamespaces into DNS search
// domains for a pod of a namespace. The domain of other clusters' services,
// "global", stands for global and NAMESPACE.global, so that "httpbin.bar" and,
// inside bar, "httpbin" reach httpbin.bar.global when the cluster itself has no
// such service.
func searchDomains(entry, namespace, global string) ([]string, error) {
	domain := namespacePlaceholder.ReplaceAllString(entry, namespace)
	if strings.ContainsAny(domain, "{}[]") {
		return nil, fmt.Errorf(`%q: the only template expression known here is {{ .DeploymentMeta.Namespace }}`, entry)
	}
	if errs := validation.IsDNS1123Subdomain(strings.TrimSuffix(domain, ".")); len(errs) > 0 {
		return nil, fmt.Errorf("%q is not a domain name: %s", entry, errs[0])
	}
	if domain == global {
		return []string{global, namespace + "." + global}, nil
	}
	return []string{domain}, nil
}

// dnsConfigOps adds the mesh's search domains behind those the pod asks for.
func dnsConfigOps(pod *corev1.Pod, v *Values, namespace string) ([]operation, error) {
	var add []string
	seen := map[string]bool{}
	if pod.Spec.DNSConfig != nil {
		for _, s := range pod.Spec.DNSConfig.Searches {
			seen[s] = true
		}
	}

	for _, entry := range v.Global.PodDNSSearchNamespaces {
		domains, err := searchDomains(entry, namespace, v.Global.MultiCluster.GlobalDomainSuffix)
		if err != nil {
			return nil, fmt.Errorf("global.podDNSSearchNamespaces: %w", err)
		}
		for _, d := range domains {
			if !seen[d] {
				seen[d] = true
				add = append(add, d)
			}
		}
	}

	switch {
	case len(add) == 0:
		return nil, nil
	case pod.Spec.DNSConfig == nil:
		return []operation{addOp("/spec/dnsConfig", map[string]any{"searches": add})}, nil
	default:
		return []operation{addOp("/spec/dnsConfig/searches", append(append([]string{}, pod.Spec.DNSConfig.Searches...), add...))}, nil
	}
}
