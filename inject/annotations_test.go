package inject

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"
	istio "istio.io/api/annotation"

	"github.com/isthmus-mesh/isthmus/api"
)

// TestEveryAnnotation: each annotation that Istio documents for pods acts, is
// refused with a reason, or is warned of. None is passed over in silence.
func TestEveryAnnotation(t *testing.T) {
	type verdict struct{ value, is string }
	const acts, refused, warned = "acts", "refused", "warned"
	want := map[string]verdict{
		"ambient.istio.io/bypass-inbound-capture": {"true", warned},
		"ambient.istio.io/dns-capture":            {"true", warned},
		"ambient.istio.io/redirection":            {"enabled", warned},
		"inject.istio.io/templates":               {"gateway", acts},
		"istio.io/reroute-virtual-interfaces":     {"net1", refused},
		"istio.io/rev":                            {"canary", warned},
		"prometheus.istio.io/merge-metrics":       {"false", acts},
		"proxy.istio.io/config":                   {"concurrency: 1", acts},
		"proxy.istio.io/overrides":                {"{}", refused},

		"readiness.status.sidecar.istio.io/applicationPorts":    {"80", warned},
		"readiness.status.sidecar.istio.io/failureThreshold":    {"7", acts},
		"readiness.status.sidecar.istio.io/initialDelaySeconds": {"7", acts},
		"readiness.status.sidecar.istio.io/periodSeconds":       {"7", acts},

		"sidecar.istio.io/agentLogLevel":         {"debug", acts},
		"sidecar.istio.io/bootstrapOverride":     {"x", refused},
		"sidecar.istio.io/componentLogLevel":     {"misc:error", warned},
		"sidecar.istio.io/discoveryAddress":      {"other.example:15012", acts},
		"sidecar.istio.io/extraStatTags":         {"x", warned},
		"sidecar.istio.io/inject":                {"false", acts}, // by Decide
		"sidecar.istio.io/interceptionMode":      {"TPROXY", refused},
		"sidecar.istio.io/logLevel":              {"debug", acts},
		"sidecar.istio.io/nativeSidecar":         {"false", acts},
		"sidecar.istio.io/proxyCPU":              {"1", acts},
		"sidecar.istio.io/proxyCPULimit":         {"1", acts},
		"sidecar.istio.io/proxyImage":            {"x", acts},
		"sidecar.istio.io/proxyImageType":        {"debug", warned},
		"sidecar.istio.io/proxyMemory":           {"1Gi", acts},
		"sidecar.istio.io/proxyMemoryLimit":      {"1Gi", acts},
		"sidecar.istio.io/rewriteAppHTTPProbers": {"false", acts},
		"sidecar.istio.io/statsCompression":      {"true", warned},
		"sidecar.istio.io/statsEvictionInterval": {"1m", warned},
		"sidecar.istio.io/statsFlushInterval":    {"1m", warned},
		"sidecar.istio.io/statsHistogramBins":    {"1", warned},
		"sidecar.istio.io/statsHistogramBuckets": {"1", warned},

		"sidecar.istio.io/statsInclusionPrefixes": {"x", warned},
		"sidecar.istio.io/statsInclusionRegexps":  {"x", warned},
		"sidecar.istio.io/statsInclusionSuffixes": {"x", warned},
		"sidecar.istio.io/status":                 {"{}", acts}, // by Decide
		"sidecar.istio.io/userVolume":             {"{}", warned},
		"sidecar.istio.io/userVolumeMount":        {"{}", warned},
		"status.sidecar.istio.io/port":            {"15999", refused},

		"traffic.sidecar.istio.io/excludeInboundPorts":     {"22", acts},
		"traffic.sidecar.istio.io/excludeInterfaces":       {"eth1", refused},
		"traffic.sidecar.istio.io/excludeOutboundIPRanges": {"10.0.0.0/8", acts},
		"traffic.sidecar.istio.io/excludeOutboundPorts":    {"22", acts},
		"traffic.sidecar.istio.io/includeInboundPorts":     {"22", acts},
		"traffic.sidecar.istio.io/includeOutboundIPRanges": {"10.0.0.0/8", acts},
		"traffic.sidecar.istio.io/includeOutboundPorts":    {"22", refused},
		"traffic.sidecar.istio.io/kubevirtInterfaces":      {"net1", refused},
	}
	const base = `
metadata: {name: p, annotations: {NAME: 'VALUE'}}
spec: {containers: [{name: a, readinessProbe: {tcpSocket: {port: 1}}}]}`
	pod := func(name, value string) string {
		return strings.NewReplacer("NAME", name, "VALUE", value).Replace(base)
	}
	without, _, err := Patch(podOf(t, pod("x", "y")), "bar", settings(t))
	if err != nil {
		t.Fatal(err)
	}

	for _, a := range istio.AllResourceAnnotations() {
		if !forPods(a) {
			continue
		}
		t.Run(a.Name, func(t *testing.T) {
			w, listed := want[a.Name]
			if !listed {
				t.Fatal("Istio documents it, and nobody has decided what becomes of it here")
			}
			p := podOf(t, pod(a.Name, w.value))
			patch, warnings, err := Patch(p, "bar", settings(t))
			d, decideErr := Decide(p, "bar", map[string]string{api.LabelInjection: "enabled"}, settings(t))
			got := "silence"
			switch {
			case err != nil && strings.Contains(err.Error(), a.Name):
				got = refused
			case len(warnings) == 1 && strings.Contains(warnings[0], a.Name):
				got = warned
			case string(patch) != string(without), decideErr != nil, !d.Inject:
				got = acts
			}
			if got != w.is {
				t.Errorf("%s, want %s (error %v, warnings %q)", got, w.is, err, warnings)
			}
		})
	}
}

func forPods(a *istio.Instance) bool {
	for _, r := range a.Resources {
		if r == istio.Pod {
			return true
		}
	}
	return false
}

// TestProxyConfigFields: each field of a pod's own ProxyConfig acts, is refused
// by name, or is warned of.
func TestProxyConfigFields(t *testing.T) {
	for field, want := range map[string]string{
		"proxyHeaders: {server: {disabled: true}}":                 "refused",
		"gatewayTopology: {numTrustedProxies: 2}":                  "refused",
		"caCertificatesPem: [x]":                                   "refused",
		"privateKeyProvider: {cryptomb: {pollDelay: 1s}}":          "refused",
		"controlPlaneAuthPolicy: MUTUAL_TLS":                       "refused",
		"customConfigFile: /x":                                     "refused",
		"runtimeValues: {a: b}":                                    "refused",
		"interceptionMode: TPROXY":                                 "refused",
		"tracing: {sampling: 1}":                                   "warned",
		"statsdUdpAddress: 's:8125'":                               "warned",
		"proxyStatsMatcher: {inclusionPrefixes: [x]}":              "warned",
		"image: {imageType: debug}":                                "warned",
		"drainDuration: 5s":                                        "warned",
		"statusPort: 15020":                                        "acts",
		"concurrency: 3":                                           "acts",
		"terminationDrainDuration: 9s":                             "acts",
		"holdApplicationUntilProxyStarts: true":                    "acts",
		"proxyMetadata: {ISTIO_META_TEAM: a}":                      "acts",
		"discoveryAddress: 'istiod-canary.istio-system.svc:15012'": "acts",
	} {
		t.Run(field, func(t *testing.T) {
			pod := podOf(t, httpbin)
			pod.Annotations = map[string]string{proxyConfigAnnotation: field}
			name, _, _ := strings.Cut(field, ":")
			_, warnings, err := Patch(pod, "bar", settings(t, plain))
			got := "acts"
			switch {
			case err != nil && strings.Contains(err.Error(), name):
				got = "refused"
			case err != nil:
				t.Fatal(err)
			case len(warnings) > 0 && strings.Contains(warnings[0], name):
				got = "warned"
			}
			if got != want {
				t.Errorf("%s, want %s: %v %q", got, want, err, warnings)
			}
		})
	}
}

// TestProxyConfigDurations: durations as people write them, and as Istio takes
// them.
func TestProxyConfigDurations(t *testing.T) {
	for text, want := range map[string]string{"1m": "60s", "1m30s": "90s", "500ms": "0.5s", "5s": "5s"} {
		config, _, err := podProxyConfig(settings(t, plain), &options{proxyConfig: "terminationDrainDuration: " + text})
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got, err := proxyConfigJSON(config)
		if err != nil || !strings.Contains(got, `"terminationDrainDuration":"`+want+`"`) {
			t.Errorf("%s: %s, want %s (%v)", text, got, want, err)
		}
	}
	if _, _, err := podProxyConfig(settings(t, plain), &options{proxyConfig: "terminationDrainDuration: soon"}); err == nil {
		t.Error("\"soon\" counts as a duration")
	}
}

// TestProxyConfigReplacesWholeValues: a pod's number or duration stands instead
// of the mesh's, of which nothing is left.
func TestProxyConfigReplacesWholeValues(t *testing.T) {
	s := settings(t, plain)
	s.Mesh.DefaultConfig.Concurrency = wrapperspb.Int32(2)
	config, _, err := podProxyConfig(s, &options{proxyConfig: "{concurrency: 0, terminationDrainDuration: 0.25s}"})
	if err != nil {
		t.Fatal(err)
	}
	if got := config.TerminationDrainDuration.AsDuration(); config.Concurrency.GetValue() != 0 || got != 250*time.Millisecond {
		t.Errorf("concurrency %d, drain %s; want 0, 250ms", config.Concurrency.GetValue(), got)
	}
	if s.Mesh.DefaultConfig.Concurrency.GetValue() != 2 {
		t.Error("a pod changed the mesh's own settings")
	}
}

// TestIdleLabels: labels that ask for what the mesh does not have are told of.
func TestIdleLabels(t *testing.T) {
	got := idleLabels(map[string]string{
		"app": "a", "istio.io/rev": "default", "istio.io/dataplane-mode": "ambient",
		"istio.io/use-waypoint": "w", "topology.istio.io/subzone": "s", "istio-locality": "r.z",
	})
	if len(got) != 3 {
		t.Errorf("%q", got)
	}
	if got := idleLabels(map[string]string{"istio.io/dataplane-mode": "none"}); len(got) > 0 {
		t.Errorf("%q", got)
	}
}

// TestNetworkOfPod: a pod's own label names its network, else it is in that of its
// cluster.
func TestNetworkOfPod(t *testing.T) {
	for label, want := range map[string]string{"": "network1", "network2": "network2"} {
		pod := podOf(t, httpbin)
		if label != "" {
			pod.Labels[labelNetwork] = label
		}
		got, warnings := inject(t, pod, settings(t))
		if network := envOf(container(t, got, ProxyContainer))["ISTIO_META_NETWORK"]; network != want || len(warnings) > 0 {
			t.Errorf("label %q: network %q, want %q; warnings %q", label, network, want, warnings)
		}
	}
}
