package inject

import (
	"encoding/json"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// prober is what the proxy's status server needs to run an application's probe
// in the kubelet's place (environment ISTIO_KUBE_APP_PROBERS, a JSON object of
// path to prober).
type prober struct {
	HTTPGet        *corev1.HTTPGetAction   `json:"httpGet,omitempty"`
	TCPSocket      *corev1.TCPSocketAction `json:"tcpSocket,omitempty"`
	GRPC           *corev1.GRPCAction      `json:"grpc,omitempty"`
	TimeoutSeconds int32                   `json:"timeoutSeconds,omitempty"`
}

// rewriteProbes points the kubelet's probes at the status server: the kubelet
// has no certificate, so that a mesh with strict mutual TLS would turn its
// probes away. Exec probes, probes of another host, and probes of a port name
// that the container lacks stay as they are.
func rewriteProbes(pod *corev1.Pod) (probers string, ops []operation, err error) {
	all := map[string]prober{}
	lists := []struct {
		path string
		list []corev1.Container
	}{{"/spec/containers/", pod.Spec.Containers}, {"/spec/initContainers/", pod.Spec.InitContainers}}
	for _, l := range lists {
		for i := range l.list {
			c := &l.list[i]
			for _, p := range []struct {
				field, verb string
				probe       *corev1.Probe
			}{{"livenessProbe", "livez", c.LivenessProbe}, {"readinessProbe", "readyz", c.ReadinessProbe}, {"startupProbe", "startupz", c.StartupProbe}} {
				pr, ok := proberOf(p.probe, c.Ports)
				if !ok {
					continue
				}
				path := "/app-health/" + c.Name + "/" + p.verb
				all[path] = pr
				ops = append(ops, probeOps(l.path+strconv.Itoa(i)+"/"+p.field, p.probe, path)...)
			}
		}
	}
	if len(all) == 0 {
		return "", nil, nil
	}
	js, err := json.Marshal(all)
	if err != nil {
		return "", nil, fmt.Errorf("encode the pod's probes: %w", err)
	}
	return string(js), ops, nil
}

func proberOf(p *corev1.Probe, ports []corev1.ContainerPort) (prober, bool) {
	if p == nil {
		return prober{}, false
	}
	out := prober{TimeoutSeconds: p.TimeoutSeconds}
	switch {
	case p.HTTPGet != nil:
		port, ok := resolvePort(p.HTTPGet.Port, ports)
		if !ok || p.HTTPGet.Host != "" || port.IntVal == statusPort || port.IntVal == readinessPort {
			return prober{}, false
		}
		get := *p.HTTPGet
		get.Port = port
		out.HTTPGet = &get
	case p.TCPSocket != nil:
		port, ok := resolvePort(p.TCPSocket.Port, ports)
		if !ok || p.TCPSocket.Host != "" {
			return prober{}, false
		}
		out.TCPSocket = &corev1.TCPSocketAction{Port: port}
	case p.GRPC != nil:
		out.GRPC = p.GRPC
	default:
		return prober{}, false
	}
	return out, true
}

func resolvePort(p intstr.IntOrString, ports []corev1.ContainerPort) (intstr.IntOrString, bool) {
	if p.Type == intstr.Int {
		return p, true
	}
	for _, cp := range ports {
		if cp.Name == p.StrVal {
			return intstr.FromInt32(cp.ContainerPort), true
		}
	}
	// A number in quotes is a number.
	if n, err := strconv.ParseUint(p.StrVal, 10, 16); err == nil {
		return intstr.FromInt32(int32(n)), true
	}
	return p, false
}

func probeOps(path string, p *corev1.Probe, target string) []operation {
	get := map[string]any{"path": target, "port": statusPort, "scheme": "HTTP"}
	var ops []operation
	switch {
	case p.TCPSocket != nil:
		ops = append(ops, removeOp(path+"/tcpSocket"))
	case p.GRPC != nil:
		ops = append(ops, removeOp(path+"/grpc"))
	}
	return append(ops, addOp(path+"/httpGet", get))
}
