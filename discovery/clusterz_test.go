package discovery

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The page tells how many addresses lead into a cluster's network, whether its
// gateway says so itself, by a label, or the mesh's networks name it.
func TestClusterzCountsGateways(t *testing.T) {
	gateway := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istio-ingressgateway"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.96.0.7",
			Ports: []corev1.ServicePort{{Name: "tls", Port: 443}},
		},
		Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "192.0.2.7"}}}},
	}
	mesh := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istio"},
		Data: map[string]string{"mesh": "{}", "meshNetworks": `
networks:
  network1:
    endpoints: [{fromRegistry: Kubernetes}]
    gateways: [{registryServiceName: istio-ingressgateway.istio-system.svc.cluster.local, port: 443}]
`},
	}

	c := startControlPlane(t, gateway, mesh)
	var page string
	c.eventually("the gateway on the page", func() bool {
		_, page = c.get(c.at.Monitoring, "/debug/clusterz")
		page = strings.Join(strings.Fields(page), "")
		return strings.Contains(page, `"network":"network1","gateways":1`)
	})
}
