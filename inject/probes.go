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

// rewrites collects what the proxy asks of the application in the kubelet's
// place.
type rewrites struct {
	probers map[string]prober // by path at the status server
	ops     []operation
}

// rewriteProbes points the kubelet's probes and HTTP hooks at the status
// server: the kubelet has no certificate, so that a mesh with strict mutual TLS
// would turn it away. What needs no rewriting stays as it is: exec probes,
// probes of another host, and probes of a port name that the container lacks.
//
// So does what the kubelet asks before the proxy runs: a proxy that is no native
// sidecar (native) starts after all init containers, and after the hooks
// postStart of the containers before it, unless it is the first (first).
func rewriteProbes(pod *corev1.Pod, native, first bool) (probers string, ops []operation, warnings []string, err error) {
	r := rewrites{probers: map[string]prober{}}
	for i := range pod.Spec.Containers {
		c, path := &pod.Spec.Containers[i], "/spec/containers/"+strconv.Itoa(i)
		r.probes(c, path)
		if !r.hooks(c, path, native || first) {
			warnings = append(warnings, fmt.Sprintf("container %s: the hook postStart asks the application over the network before the proxy runs, and fails; "+
				"set holdApplicationUntilProxyStarts in the annotation %s", c.Name, proxyConfigAnnotation))
		}
	}

	for i := range pod.Spec.InitContainers {
		c, path := &pod.Spec.InitContainers[i], "/spec/initContainers/"+strconv.Itoa(i)
		if native {
			r.probes(c, path)
			r.hooks(c, path, true)
		} else if c.StartupProbe != nil || c.ReadinessProbe != nil || c.LivenessProbe != nil {
			warnings = append(warnings, fmt.Sprintf("init container %s: its probes start before the proxy and are not passed on by it: "+
				"they fail where mutual TLS is strict; leave out sidecar.istio.io/nativeSidecar", c.Name))
		}
	}

	if len(r.probers) == 0 {
		return "", nil, warnings, nil
	}

	js, err := json.Marshal(r.probers)
	if err != nil {
		return "", nil, nil, fmt.Errorf("encode the pod's probes: %w", err)
	}
	return string(js), r.ops, warnings, nil
}

// probes rewrites the probes of the container at a path of the patch.
func (r *rewrites) probes(c *corev1.Container, at string) {
	for _, p := range []struct {
		field, verb string
		probe       *corev1.Probe
	}{
		{"livenessProbe", "livez", c.LivenessProbe},
		{"readinessProbe", "readyz", c.ReadinessProbe},
		{"startupProbe", "startupz", c.StartupProbe},
	} {
		pr, ok := proberOf(p.probe, c.Ports)
		if !ok {
			continue
		}
		path := "/app-health/" + c.Name + "/" + p.verb
		r.probers[path] = pr
		r.ops = append(r.ops, probeOps(at+"/"+p.field, p.probe, path)...)
	}
}

// hooks rewrites the HTTP hooks of a container. It is false when there is a
// postStart that cannot be passed on, since the proxy does not run yet.
func (r *rewrites) hooks(c *corev1.Container, at string, proxyRuns bool) bool {
	if c.Lifecycle == nil {
		return true
	}

	ok := true
	for _, h := range []struct {
		field, verb string
		handler     *corev1.LifecycleHandler
	}{
		{"postStart", "poststartz", c.Lifecycle.PostStart},
		{"preStop", "prestopz", c.Lifecycle.PreStop},
	} {
		if h.handler == nil || h.handler.HTTPGet == nil {
			continue
		}

		get, known := proberOfGet(h.handler.HTTPGet, c.Ports)
		if !known {
			continue
		}
		if h.field == "postStart" && !proxyRuns {
			ok = false
			continue
		}

		path := "/app-lifecycle/" + c.Name + "/" + h.verb
		r.probers[path] = prober{HTTPGet: get}
		r.ops = append(r.ops, addOp(at+"/lifecycle/"+h.field+"/httpGet", statusGet(path)))
	}

	return ok
}

func proberOf(p *corev1.Probe, ports []corev1.ContainerPort) (prober, bool) {
	if p == nil {
		return prober{}, false
	}

	out := prober{TimeoutSeconds: p.TimeoutSeconds}
	switch {
	case p.HTTPGet != nil:
		get, ok := proberOfGet(p.HTTPGet, ports)
		if !ok {
			return prober{}, false
		}
		out.HTTPGet = get
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

// proberOfGet resolves the port of an HTTP request of the kubelet. It is false
// for one that does not ask the application.
func proberOfGet(in *corev1.HTTPGetAction, ports []corev1.ContainerPort) (*corev1.HTTPGetAction, bool) {
	port, ok := resolvePort(in.Port, ports)
	if !ok || in.Host != "" || port.IntVal == statusPort || port.IntVal == readinessPort {
		return nil, false
	}
	get := *in
	get.Port = port
	return &get, true
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
	var ops []operation
	switch {
	case p.TCPSocket != nil:
		ops = append(ops, removeOp(path+"/tcpSocket"))
	case p.GRPC != nil:
		ops = append(ops, removeOp(path+"/grpc"))
	}
	return append(ops, addOp(path+"/httpGet", statusGet(target)))
}

// statusGet asks the status server; headers are the prober's to send.
func statusGet(path string) map[string]any {
	return map[string]any{"path": path, "port": statusPort, "scheme": "HTTP"}
}
