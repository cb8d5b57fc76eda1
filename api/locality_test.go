package api

import (
	"strings"
	"testing"
)

// localityCases are settings that are refused, each with the path after that of
// the setting, and the reason.
var localityCases = map[string]struct{ setting, want string }{
	"shares below 100": {
		`{distribute: [{from: "r1/*", to: {"r1/*": 80, "r2/*": 10}}]}`,
		".distribute[0].to: the shares come to 90",
	},
	"shares above 100": {
		`{distribute: [{from: "r1/*", to: {"r1/*": 80, "r2/*": 4294967295}}]}`,
		".distribute[0].to[r2/*]: 4294967295 is no share",
	},
	"no shares": {
		`{distribute: [{from: "r1/*"}]}`,
		".distribute[0].to: the shares come to 0",
	},
	"a share of nothing": {
		`{distribute: [{from: "r1/*", to: {"r1/*": 100, "r2/*": 0}}]}`,
		".distribute[0].to[r2/*]: 0 is no share",
	},
	"an empty part": {
		`{distribute: [{from: "r1//s1", to: {"*": 100}}]}`,
		`.distribute[0].from: "r1//s1" has an empty part`,
	},
	"no place": {
		`{distribute: [{to: {"*": 100}}]}`,
		`.distribute[0].from: "" has an empty part`,
	},
	"a star in the middle": {
		`{distribute: [{from: "r1/*/s1", to: {"*": 100}}]}`,
		`.distribute[0].from: "r1/*/s1": a * stands for all`,
	},
	"a part of a part": {
		`{distribute: [{from: "us-*", to: {"*": 100}}]}`,
		`.distribute[0].from: "us-*": a * stands for all`,
	},
	"places twice": {
		`{distribute: [{from: "r1/*", to: {"*": 100}}, {from: "r1/z1", to: {"*": 100}}]}`,
		`.distribute[1].from: "r1/z1" and "r1/*" speak of the same places`,
	},
	"targets twice": {
		`{distribute: [{from: "r1", to: {"*": 50, "r2/*": 50}}]}`,
		`speak of the same places`,
	},
	"distribute and failover": {
		`{distribute: [{from: "*", to: {"*": 100}}], failover: [{from: a, to: b}]}`,
		".distribute: cannot stand beside failover:",
	},
	"distribute and priorities": {
		`{distribute: [{from: "*", to: {"*": 100}}], failoverPriority: [a]}`,
		".distribute: cannot stand beside failoverPriority:",
	},
	"failover to itself": {
		`{failover: [{from: a, to: a}]}`,
		`.failover[0].to: "a" is the region that fails`,
	},
	"failover of a zone": {
		`{failover: [{from: a/z, to: b}]}`,
		`.failover[0].from: "a/z" is no region`,
	},
	"failover to any": {
		`{failover: [{from: a, to: "*"}]}`,
		`.failover[0].to: "*" is no region`,
	},
	"failover to nowhere": {
		`{failover: [{from: a}]}`,
		`.failover[0].to: is empty`,
	},
	"failover twice": {
		`{failover: [{from: a, to: b}, {from: a, to: c}]}`,
		`.failover[1].from: "a" is listed twice`,
	},
	"failover and a region": {
		`{failover: [{from: a, to: b}], failoverPriority: [topology.istio.io/cluster, topology.kubernetes.io/region]}`,
		`.failoverPriority[1]: "topology.kubernetes.io/region" cannot stand beside failover`,
	},
	"no label": {
		`{failoverPriority: ["a b"]}`,
		`.failoverPriority[0]: "a b" is no label key`,
	},
	"no value": {
		`{failoverPriority: ["a=b=c"]}`,
		`.failoverPriority[0]: "b=c" is no label value`,
	},
	"a label twice": {
		`{failoverPriority: [a, "a=b"]}`,
		`.failoverPriority[1]: "a" is listed twice`,
	},
	"too many labels": {
		`{failoverPriority: [` + strings.Repeat("a,", 24) + `a]}`,
		`.failoverPriority: lists 25 labels`,
	},
}

// TestLocalitySettingsThatAreRefused: at the webhook with the path of the field,
// wherever in a DestinationRule the setting stands.
func TestLocalitySettingsThatAreRefused(t *testing.T) {
	for name, c := range localityCases {
		for path, spec := range map[string]string{
			"spec.trafficPolicy":                      `{host: a.b, trafficPolicy: {POLICY}}`,
			"spec.trafficPolicy.portLevelSettings[0]": `{host: a.b, trafficPolicy: {portLevelSettings: [{port: {number: 80}, POLICY}]}}`,
			"spec.subsets[0].trafficPolicy":           `{host: a.b, subsets: [{name: v1, trafficPolicy: {POLICY}}]}`,
		} {
			spec = strings.Replace(spec, "POLICY", "loadBalancer: {localityLbSetting: "+c.setting+"}", 1)
			_, err := decodeYAML(t, document("DestinationRule", spec))
			want := c.want
			if strings.HasPrefix(want, ".") {
				want = path + ".loadBalancer.localityLbSetting" + want
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %v, want one with %q", name, err, want)
			}
		}
	}
}

// TestLocalitySettingsThatAreTaken: what is valid in Istio is taken without a word.
func TestLocalitySettingsThatAreTaken(t *testing.T) {
	for _, setting := range []string{
		`{enabled: true}`,
		`{enabled: false}`,
		`{distribute: [{from: "us-west/zone1/*", to: {"us-west/zone1/*": 80, "us-west/zone2/*": 20}}, {from: "us-west/zone2/*", to: {"us-west/zone1/*": 20, "us-west/zone2/*": 80}}]}`,
		`{distribute: [{from: "r1", to: {"r1/z1/s1": 30, "r1/z1/s2": 30, "r1/z2": 40}}]}`,
		`{failover: [{from: us-east, to: eu-west}, {from: us-west, to: us-east}]}`,
		`{failoverPriority: [topology.istio.io/network, topology.kubernetes.io/region, topology.kubernetes.io/zone, topology.istio.io/subzone]}`,
		`{failoverPriority: ["version=v1", "topology.istio.io/cluster=clusterA"]}`,
		`{failoverPriority: [topology.istio.io/network], failover: [{from: a, to: b}]}`,
	} {
		obj, err := decodeYAML(t, document("DestinationRule", `{host: a.b, trafficPolicy: {loadBalancer: {localityLbSetting: `+setting+`}}}`))
		if err != nil {
			t.Errorf("%s: %v", setting, err)
			continue
		}
		if w := Warnings(obj); len(w) > 0 {
			t.Errorf("%s: warnings %q", setting, w)
		}
		if _, w, err := LoadMeshConfig("localityLbSetting: " + setting); err != nil || len(w) > 0 {
			t.Errorf("%s: in the mesh configuration: %v, %q", setting, err, w)
		}
	}
}

// TestMeshLocalitySettingThatCannotHold: all of it is left out, but for its switch,
// and told of.
func TestMeshLocalitySettingThatCannotHold(t *testing.T) {
	for name, c := range localityCases {
		text := strings.Replace(c.setting, "{", "localityLbSetting: {enabled: true, ", 1)
		mc, warnings, err := LoadMeshConfig(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		s := mc.LocalityLbSetting
		if !s.GetEnabled().GetValue() || len(s.Distribute)+len(s.Failover)+len(s.FailoverPriority) > 0 {
			t.Errorf("%s: %v is in force", name, s)
		}
		got := strings.Join(warnings, "\n")
		for _, want := range []string{c.want, "localityLbSetting: left out but for enabled"} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no word of %q in\n%s", name, want, got)
			}
		}
	}
}
