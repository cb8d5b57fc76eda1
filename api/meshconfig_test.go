package api

import (
	"strings"
	"testing"

	meshconfig "istio.io/api/mesh/v1alpha1"
)

// TestOutboundTrafficPolicy: what stands beside the mode never changes it, no
// mode is Istio's default, and a mode that cannot be read closes.
func TestOutboundTrafficPolicy(t *testing.T) {
	const (
		any    = meshconfig.MeshConfig_OutboundTrafficPolicy_ALLOW_ANY
		closed = meshconfig.MeshConfig_OutboundTrafficPolicy_REGISTRY_ONLY
	)
	for text, c := range map[string]struct {
		want meshconfig.MeshConfig_OutboundTrafficPolicy_Mode
		told string
	}{
		`{mode: REGISTRY_ONLY}`: {
			closed, "",
		},
		`{mode: ALLOW_ANY}`: {
			any, "",
		},
		`{}`: {
			any, "",
		},
		`{tls: {mode: SIMPLE}}`: {
			any, "outboundTrafficPolicy.tls",
		},
		`{mode: REGISTRY_ONLY, egressProxy: {host: istio-egressgateway.istio-system.svc.cluster.local, port: {number: 80}}}`: {
			closed, "outboundTrafficPolicy.egressProxy",
		},
		`{mode: REGISTRY_ONLY, unheardOf: 1}`: {
			closed, "outboundTrafficPolicy.unheardOf",
		},
		`{mode: REGISTRY_ONLYY}`: {
			closed, "REGISTRY_ONLY holds until it is corrected",
		},
		`[]`: {
			closed, "REGISTRY_ONLY holds until it is corrected",
		},
		`{mode: ALLOW_ANY, egressProxy: {host: a.b}}`: {
			any, "outboundTrafficPolicy.egressProxy: left out",
		},
	} {
		mc, warnings, err := LoadMeshConfig("outboundTrafficPolicy: " + text)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(warnings, "\n")
		if mc.OutboundTrafficPolicy == nil || mc.OutboundTrafficPolicy.Mode != c.want || (c.told == "") != (got == "") || !strings.Contains(got, c.told) {
			t.Errorf("%s: %v, told %q; want %s, %q", text, mc.OutboundTrafficPolicy, got, c.want, c.told)
		}
	}
}

// TestIdleMeshFieldsAreToldByPath: at any depth.
func TestIdleMeshFieldsAreToldByPath(t *testing.T) {
	_, warnings, err := LoadMeshConfig(`
localityLbSetting: {enabled: true, failoverPriority: [topology.istio.io/network]}
defaultConfig: {interceptionMode: TPROXY, tracing: {sampling: 100}, statsdUdpAddress: "s:8125", drainDuration: 5s, concurrency: 2}
h2UpgradePolicy: UPGRADE
`)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(warnings, "\n")
	for _, want := range []string{
		"defaultConfig.interceptionMode: ",
		"defaultConfig.tracing: ", "defaultConfig.statsdUdpAddress: ", "defaultConfig.drainDuration: ", "h2UpgradePolicy: ",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no word of %s in\n%s", want, got)
		}
	}
	if len(warnings) != 5 {
		t.Errorf("%d warnings, want 5:\n%s", len(warnings), got)
	}
}

// TestIngressModeIsTold: no Ingress is read, whatever the mode.
func TestIngressModeIsTold(t *testing.T) {
	for mode, told := range map[string]bool{"STRICT": true, "DEFAULT": true, "OFF": false} {
		_, warnings, err := LoadMeshConfig(`ingressControllerMode: "` + mode + `"`)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(warnings, "\n"); strings.Contains(got, "ingressControllerMode: ") != told || !told && got != "" {
			t.Errorf("%s: told %q, want it to be told: %t", mode, got, told)
		}
	}
}
