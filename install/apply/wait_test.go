package apply

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestAwaitedDeployments: what came after the first Deployment of another
// namespace, such as a second gateway, was not waited for.
func TestAwaitedDeployments(t *testing.T) {
	step := func(kind, namespace, name string) Step {
		return Step{Entry: Entry{Kind: kind, Namespace: namespace, Name: name, Component: "Component of " + namespace}}
	}
	one := []Step{step("Service", "other", "istiod"), step("Deployment", "istio-system", "istiod")}
	if a := awaitedDeployments(one); len(a.pending) != 1 || a.namespace != "istio-system" {
		t.Errorf("of one namespace: %+v", a)
	}

	more := append(one,
		step("Deployment", "gateways", "ingress"),
		step("Deployment", "gateways", "egress"),
		step("Deployment", "istio-system", "istiocoredns"))
	a := awaitedDeployments(more)
	for _, key := range []string{"istio-system/istiod", "gateways/ingress", "gateways/egress", "istio-system/istiocoredns"} {
		if !a.pending[key] {
			t.Errorf("%s is not waited for", key)
		}
	}
	if a.namespace != metav1.NamespaceAll || a.left["Component of gateways"] != 2 {
		t.Errorf("of two namespaces: %+v", a)
	}
}
