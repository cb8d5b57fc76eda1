package api

import (
	"strings"
	"testing"
)

// TestVisibilityIsChecked: what matches nothing is told, by its path; what is right
// is not.
func TestVisibilityIsChecked(t *testing.T) {
	for text, want := range map[string]string{
		`discoverySelectors: [{matchLabels: {team: a}, matchExpressions: [{key: env, operator: In, values: [prod]}, {key: x, operator: Exists}]}]`: "",
		`discoverySelectors: [{matchExpressions: [{key: env, operator: Like, values: [prod]}]}]`:                                                   `discoverySelectors[0].matchExpressions[0].operator: "Like" is none of`,
		`discoverySelectors: [{matchExpressions: [{key: env, operator: In}]}]`:                                                                     `discoverySelectors[0].matchExpressions[0].values: is empty`,
		`discoverySelectors: [{matchExpressions: [{key: env, operator: Exists, values: [a]}]}]`:                                                    `discoverySelectors[0].matchExpressions[0].values: change nothing`,
		`discoverySelectors: [{matchLabels: {"a b": c}}]`:                                                                                          `"a b" is no label key`,

		`serviceSettings: [{settings: {clusterLocal: true}, hosts: ["*.a.svc.cluster.local", b.a.svc.cluster.local, "*"]}]`: "",
		`serviceSettings: [{settings: {clusterLocal: true}}]`:                                                               `serviceSettings[0].hosts: is empty`,
		`serviceSettings: [{settings: {clusterLocal: true}, hosts: ["a.*.svc.cluster.local"]}]`:                             `serviceSettings[0].hosts[0]: "a.*.svc.cluster.local" is about no service`,
		`serviceSettings: [{settings: {clusterLocal: true}, hosts: [web]}]`:                                                 `serviceSettings[0].hosts[0]: "web" is about no service`,

		`defaultServiceExportTo: ["."]`:                  "",
		`defaultServiceExportTo: ["~"]`:                  "",
		`defaultServiceExportTo: ["*", a]`:               `defaultServiceExportTo[0]: "*" cannot stand beside`,
		`defaultDestinationRuleExportTo: ["Not a name"]`: `defaultDestinationRuleExportTo[0]: "Not a name" is none of`,
		`defaultVirtualServiceExportTo: ["Not a name"]`:  `defaultVirtualServiceExportTo[0]: "Not a name" is none of`,
	} {
		_, warnings, err := LoadMeshConfig(text)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(warnings, "\n")
		if !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("%s: told %q, want %q", text, got, want)
		}
	}
}
