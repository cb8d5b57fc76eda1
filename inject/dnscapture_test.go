package inject

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestCaptureDNS: who says whether a pod's queries go to its sidecar.
func TestCaptureDNS(t *testing.T) {
	mesh := func(value string) func(*Settings) {
		return func(s *Settings) {
			s.Mesh.DefaultConfig.ProxyMetadata[captureDNSEnv] = value
		}
	}
	annotation := func(name, value string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Annotations = map[string]string{proxyConfigAnnotation: `{"proxyMetadata":{"` + name + `":"` + value + `"}}`}
		}
	}
	own := func(value string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{
				Name: ProxyContainer, Image: autoImage, Env: []corev1.EnvVar{{Name: captureDNSEnv, Value: value}},
			})
		}
	}
	none := func(*corev1.Pod) {}
	for name, tt := range map[string]struct {
		mesh func(*Settings)
		pod  func(*corev1.Pod)
		on   bool
		warn string
		bad  string
	}{
		"nobody": {
			mesh: plain,
			pod:  none,
			on:   true,
		},
		"the mesh": {
			mesh: mesh("false"),
			pod:  none,
			on:   false,
		},
		"the pod": {
			mesh: plain,
			pod:  annotation(captureDNSEnv, "false"),
			on:   false,
		},
		"the pod against the mesh": {
			mesh: mesh("false"),
			pod:  annotation(captureDNSEnv, "true"),
			on:   true,
		},
		"the container": {
			mesh: plain,
			pod:  own("false"),
			on:   false,
		},
		"the container against all": {
			mesh: mesh("false"),
			pod:  own("true"),
			on:   true,
		},
		"addresses, as they are": {
			mesh: plain,
			pod:  annotation(allocateDNSEnv, "true"),
			on:   true,
		},
		"no addresses": {
			mesh: plain,
			pod:  annotation(allocateDNSEnv, "false"),
			on:   true,
			warn: "DNS_AUTO_ALLOCATE=false has no effect",
		},
		"the mesh, with a wrong value": {
			mesh: mesh("maybe"),
			pod:  none,
			on:   true,
			warn: `ISTIO_META_DNS_CAPTURE="maybe": want true or false; it is taken as true`,
		},
		"the mesh, with quotes": {
			mesh: mesh(`"false"`),
			pod:  none,
			on:   false,
		},
		"the pod, with quotes": {
			mesh: mesh("false"),
			pod:  annotation(captureDNSEnv, "'true'"),
			on:   true,
		},
		"the pod, with a value missing": {
			mesh: plain,
			pod:  annotation(captureDNSEnv, ""),
			bad:  "want true or false",
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := podOf(t, httpbin)
			tt.pod(pod)
			patch, warnings, err := Patch(pod, "bar", settings(t, tt.mesh))
			if tt.bad != "" {
				if err == nil || !strings.Contains(err.Error(), tt.bad) {
					t.Errorf("error %v, want %q", err, tt.bad)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if tt.warn != "" && !strings.Contains(strings.Join(warnings, "\n"), tt.warn) {
				t.Errorf("warnings %v, want %q", warnings, tt.warn)
			}
			got := apply(t, pod, patch)
			for _, c := range slices.Concat(got.Spec.InitContainers, got.Spec.Containers) {
				switch c.Name {
				case InitContainer:
					if led := slices.Contains(c.Args, "--dns"); led != tt.on {
						t.Errorf("queries are led to the proxy: %v, want %v", led, tt.on)
					}
				case ProxyContainer:
					if answers := envOf(c)[captureDNSEnv] == "true"; answers != tt.on {
						t.Errorf("the proxy answers: %v, want %v", answers, tt.on)
					}
				}
			}
		})
	}
}
