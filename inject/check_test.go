package inject

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestRootRunsTheMeshImage: the init container runs as root, so that its image
// is the mesh's, whatever the pod's annotation names for the proxy.
func TestRootRunsTheMeshImage(t *testing.T) {
	pod := podOf(t, httpbin)
	pod.Annotations = map[string]string{"sidecar.istio.io/proxyImage": "evil.example/anything:1"}
	for name, edit := range map[string]func(*Settings){"native": func(*Settings) {}, "plain": plain} {
		t.Run(name, func(t *testing.T) {
			got, _ := inject(t, pod, settings(t, edit))
			if c := container(t, got, InitContainer); c.Image != "example.org/mesh/proxyv2:1.2" {
				t.Errorf("the init container, which is root, runs %s", c.Image)
			}
			for _, c := range append(got.Spec.Containers, got.Spec.InitContainers...) {
				root := c.SecurityContext != nil && c.SecurityContext.RunAsUser != nil && *c.SecurityContext.RunAsUser == 0
				if root && strings.Contains(c.Image, "evil") {
					t.Errorf("%s runs %s as root", c.Name, c.Image)
				}
			}
		})
	}
}

// TestProxyUser: whatever runs as the proxy's user or group passes by the mesh.
func TestProxyUser(t *testing.T) {
	for name, c := range map[string]struct{ spec, want string }{
		"container user": {
			"{containers: [{name: a, securityContext: {runAsUser: 1337}}]}",
			"container a runs as user 1337",
		},
		"container group": {
			"{containers: [{name: a, securityContext: {runAsGroup: 1337}}]}",
			"container a runs as group 1337",
		},
		"pod user": {
			"{securityContext: {runAsUser: 1337}, containers: [{name: a}]}",
			"container a runs as user 1337",
		},
		"pod group": {
			"{securityContext: {runAsGroup: 1337}, containers: [{name: a}]}",
			"container a runs as group 1337",
		},
		"init user": {
			"{initContainers: [{name: i, securityContext: {runAsUser: 1337}}], containers: [{name: a}]}",
			"init container i runs as user 1337",
		},
		"init group": {
			"{initContainers: [{name: i, securityContext: {runAsGroup: 1337}}], containers: [{name: a}]}",
			"init container i runs as group 1337",
		},
		"second container": {
			"{containers: [{name: a}, {name: b, securityContext: {runAsUser: 1337}}]}",
			"container b runs as user 1337",
		},
		"the container's word counts": {
			"{securityContext: {runAsUser: 1337, runAsGroup: 1337}, containers: [{name: a, securityContext: {runAsUser: 1, runAsGroup: 1}}]}",
			"",
		},
		"half of the pod's word stays": {
			"{securityContext: {runAsUser: 1337, runAsGroup: 1337}, containers: [{name: a, securityContext: {runAsUser: 1}}]}",
			"container a runs as group 1337",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Patch(podOf(t, "spec: "+c.spec), "bar", settings(t))
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// TestProxyVolumes: what the proxy keeps for itself no other container reads or
// writes, although a pod may name volumes that it gets only by the injection.
func TestProxyVolumes(t *testing.T) {
	for name, c := range map[string]struct{ spec, want string }{
		"volume": {
			"{containers: [{name: a}], volumes: [{name: istio-proxy-state, emptyDir: {}}]}",
			"volume istio-proxy-state: the name is needed",
		},
		"container": {
			"{containers: [{name: a}, {name: b, volumeMounts: [{name: istio-proxy-state, mountPath: /x}]}]}",
			"container b mounts the volume istio-proxy-state, which is the proxy's alone",
		},
		"init container": {
			"{initContainers: [{name: i, volumeMounts: [{name: istio-token, mountPath: /x}]}], containers: [{name: a}]}",
			"init container i mounts the volume istio-token",
		},
		"another volume": {
			"{containers: [{name: a, volumeMounts: [{name: data, mountPath: /x}]}], volumes: [{name: data, emptyDir: {}}]}",
			"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Patch(podOf(t, "spec: "+c.spec), "bar", settings(t))
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// TestTheSameRefusalEachTime: of several settings that are refused, the same one is
// named, however often the pod comes.
func TestTheSameRefusalEachTime(t *testing.T) {
	for config, want := range map[string]string{
		`{proxyMetadata: {"a b": "", "c d": "", "e f": "", "g h": ""}}`:                        `"a b" is not the name`,
		`{proxyHeaders: {}, gatewayTopology: {}, caCertificatesPem: [x], customConfigFile: x}`: "customConfigFile",
	} {
		pod := podOf(t, "spec: {containers: [{name: a}]}")
		pod.Annotations = map[string]string{proxyConfigAnnotation: config}
		for range 20 { // a map of four has no order
			if _, _, err := Patch(pod, "bar", settings(t)); err == nil || !strings.Contains(err.Error(), want) {
				t.Fatalf("error %v, want %q", err, want)
			}
		}
	}
}

// TestPodMetadata: what whoever writes pods may put into the proxy's
// environment.
func TestPodMetadata(t *testing.T) {
	for name, c := range map[string]struct{ refused, warned string }{
		"TRUST_DOMAIN":                    {refused: "TRUST_DOMAIN may not be set"},
		"SERVICE_ACCOUNT":                 {refused: "SERVICE_ACCOUNT may not be set"},
		"CA_ADDR":                         {refused: "CA_ADDR may not be set"},
		"GODEBUG":                         {refused: "GODEBUG may not be set"},
		"POD_NAME":                        {refused: "POD_NAME may not be set"},
		"INSTANCE_IP":                     {refused: "INSTANCE_IP may not be set"},
		"PROXY_CONFIG":                    {refused: "PROXY_CONFIG may not be set"},
		"OUTPUT_CERTS":                    {refused: "OUTPUT_CERTS may not be set"},
		"SSL_CERT_FILE":                   {refused: "SSL_CERT_FILE may not be set"},
		"HTTPS_PROXY":                     {refused: "HTTPS_PROXY may not be set"},
		"A B":                             {refused: `"A B" is not the name`},
		"ISTIO_META_CLUSTER_ID":           {refused: "ISTIO_META_CLUSTER_ID is set by the mesh"},
		"ISTIO_META_NETWORK":              {refused: "ISTIO_META_NETWORK is set by the mesh"},
		"ISTIO_META_LABELS":               {refused: "ISTIO_META_LABELS is set by the mesh"},
		"ISTIO_META_ENABLE_HBONE":         {warned: "ISTIO_META_ENABLE_HBONE has no effect"},
		"ISTIO_META_DNS_CAPTURE":          {refused: `ISTIO_META_DNS_CAPTURE="7": want true or false`},
		"ISTIO_META_TEAM":                 {},
		"EXIT_ON_ZERO_ACTIVE_CONNECTIONS": {},
		"GOMAXPROCS":                      {},
	} {
		t.Run(name, func(t *testing.T) {
			fromConfig, fromOverlay := podOf(t, httpbin), podOf(t, httpbin)
			fromConfig.Annotations = map[string]string{proxyConfigAnnotation: `{"proxyMetadata":{"` + name + `":"7"}}`}
			own := corev1.Container{Name: ProxyContainer, Image: autoImage, Env: []corev1.EnvVar{{
				Name:  name,
				Value: "7",
			}}}
			fromOverlay.Spec.Containers = append(fromOverlay.Spec.Containers, own)

			for way, pod := range map[string]*corev1.Pod{"annotation": fromConfig, "overlay": fromOverlay} {
				patch, warnings, err := Patch(pod, "bar", settings(t))
				if c.refused != "" {
					if err == nil || !strings.Contains(err.Error(), c.refused) {
						t.Errorf("%s: error %v, want %q", way, err, c.refused)
					}
					continue
				}
				if err != nil {
					t.Errorf("%s: %v", way, err)
					continue
				}
				if got := envOf(container(t, apply(t, pod, patch), ProxyContainer))[name]; got != "7" {
					t.Errorf("%s: %s=%q", way, name, got)
				}
				if all := strings.Join(warnings, "\n"); c.warned == "" && all != "" || !strings.Contains(all, c.warned) {
					t.Errorf("%s: warnings %q, want %q", way, warnings, c.warned)
				}
			}
		})
	}
}

// TestMeshMetadata: whoever runs the mesh may set any variable.
func TestMeshMetadata(t *testing.T) {
	got, _ := inject(t, podOf(t, httpbin), settings(t, func(s *Settings) { s.Mesh.DefaultConfig.ProxyMetadata["GODEBUG"] = "x" }))
	if v := envOf(container(t, got, ProxyContainer))["GODEBUG"]; v != "x" {
		t.Errorf("GODEBUG=%q", v)
	}
}

// TestLimitRange: the pod's resource annotations hold for every container that
// is added, or a namespace's LimitRange forbids the pod.
func TestLimitRange(t *testing.T) {
	pod := podOf(t, httpbin)
	pod.Annotations = map[string]string{
		"sidecar.istio.io/proxyCPU": "20m", "sidecar.istio.io/proxyCPULimit": "500m",
		"sidecar.istio.io/proxyMemory": "48Mi", "sidecar.istio.io/proxyMemoryLimit": "128Mi",
	}
	fat := func(s *Settings) {
		s.Values.Global.ProxyInit.Resources = s.Values.Global.Proxy.Resources
	}
	for name, edit := range map[string]func(*Settings){"native": func(*Settings) {}, "plain": plain} {
		t.Run(name, func(t *testing.T) {
			got, _ := inject(t, pod, settings(t, fat, edit))
			for _, c := range []string{InitContainer, ProxyContainer} {
				r := container(t, got, c).Resources
				if r.Requests.Cpu().String() != "20m" || r.Limits.Cpu().String() != "500m" || r.Requests.Memory().String() != "48Mi" || r.Limits.Memory().String() != "128Mi" {
					t.Errorf("%s: %v", c, r)
				}
			}
		})
	}
	got, _ := inject(t, podOf(t, httpbin), settings(t, fat))
	if r := container(t, got, InitContainer).Resources; r.Limits.Memory().String() != "100Mi" {
		t.Errorf("without annotations, the values' resources: %v", r)
	}
}
