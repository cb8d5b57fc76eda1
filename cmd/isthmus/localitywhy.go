package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/kube"
)

// settings are the objects that may say in which order endpoints are used, as far as
// they could be read.
type settings struct {
	rules    []unstructured.Unstructured // DestinationRules
	services []corev1.Service
	mesh     map[string]any // the mesh configuration
	root     string         // namespace
}

// readSettings reads what there is about some ports. Who may look into pods may not be let read all of
// it: the answer says less then.
func readSettings(ctx context.Context, cfg *rest.Config, client kubernetes.Interface, root string, ports []portSeen) settings {
	s := settings{root: root, mesh: map[string]any{}}
	asked := map[string]bool{}
	for _, p := range ports {
		name, namespace, ok := serviceOf(p.Host)
		if !ok || asked[namespace+"/"+name] {
			continue
		}
		asked[namespace+"/"+name] = true
		if svc, err := client.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{}); err == nil {
			s.services = append(s.services, *svc)
		}
	}
	if data, err := kube.ReadConfigMap(ctx, client, root, "istio"); err == nil {
		_ = yaml.Unmarshal([]byte(data["mesh"]), &s.mesh) // istiod says what is wrong with it
	}

	dyn, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return s
	}
	rules := schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "destinationrules"}
	if list, err := dyn.Resource(rules).List(ctx, metav1.ListOptions{}); err == nil {
		s.rules = list.Items
	}
	return s
}

// serviceOf is the Service that a host name speaks of.
func serviceOf(host string) (name, namespace string, ok bool) {
	name, rest, _ := strings.Cut(host, ".")
	namespace, _, ok = strings.Cut(rest, ".svc.")
	return name, namespace, ok
}

// of names what has a say in how a client's namespace uses the endpoints of a host.
func (s settings) of(host, client string) []string {
	name, namespace, isService := serviceOf(host)
	var out []string

	// As DestinationRules are looked for: the client's namespace, the service's, the
	// root namespace. The first that has one counts.
	for _, ns := range []string{client, namespace, s.root} {
		i := slices.IndexFunc(s.rules, func(r unstructured.Unstructured) bool { return r.GetNamespace() == ns && ruleNames(&r, host) })
		if i < 0 {
			continue
		}
		if fields := policyFields(&s.rules[i]); len(fields) > 0 {
			out = append(out, fmt.Sprintf("DestinationRule %s/%s: %s", ns, s.rules[i].GetName(), strings.Join(fields, ", ")))
		}
		break
	}

	if isService {
		i := slices.IndexFunc(s.services, func(svc corev1.Service) bool { return svc.Namespace == namespace && svc.Name == name })
		if i >= 0 {
			out = append(out, serviceSays(&s.services[i])...)
		}
	}
	if _, given := s.mesh["localityLbSetting"]; given {
		out = append(out, "mesh configuration: localityLbSetting")
	}
	return out
}

// serviceSays is what a Service says of where its calls go.
func serviceSays(svc *corev1.Service) []string {
	var out []string
	if d := svc.Spec.TrafficDistribution; d != nil {
		out = append(out, fmt.Sprintf("Service %s/%s: trafficDistribution %s", svc.Namespace, svc.Name, *d))
	}
	if p := svc.Spec.InternalTrafficPolicy; p != nil && *p == corev1.ServiceInternalTrafficPolicyLocal {
		out = append(out, fmt.Sprintf("Service %s/%s: internalTrafficPolicy %s", svc.Namespace, svc.Name, *p))
	}
	return out
}

// ruleNames tells whether a DestinationRule is about a host: by its whole name, by one
// below the rule's own namespace, or by a suffix.
func ruleNames(rule *unstructured.Unstructured, host string) bool {
	named, _, err := unstructured.NestedString(rule.Object, "spec", "host")
	if err != nil || named == "" {
		return false
	}
	if suffix, ok := strings.CutPrefix(named, "*"); ok {
		return strings.HasSuffix(host, suffix)
	}
	if !strings.Contains(named, ".") {
		return strings.HasPrefix(host, named+"."+rule.GetNamespace()+".svc.")
	}
	return host == named || strings.HasPrefix(host, named+".svc.")
}

// policyFields are the fields of a DestinationRule that say which endpoints are used.
func policyFields(rule *unstructured.Unstructured) []string {
	var out []string
	for _, path := range [][]string{
		{"trafficPolicy", "loadBalancer", "localityLbSetting"},
		{"trafficPolicy", "loadBalancer", "simple"},
		{"trafficPolicy", "loadBalancer", "consistentHash"},
		{"trafficPolicy", "loadBalancer", "warmup"},
		{"trafficPolicy", "outlierDetection"},
		{"trafficPolicy", "portLevelSettings"},
		{"subsets"},
	} {
		if _, given, err := unstructured.NestedFieldNoCopy(rule.Object, append([]string{"spec"}, path...)...); given && err == nil {
			out = append(out, strings.Join(path, "."))
		}
	}
	return out
}
