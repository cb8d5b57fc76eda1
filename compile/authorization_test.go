package compile

import (
	"fmt"
	"testing"

	security "istio.io/api/security/v1beta1"

	"google.golang.org/protobuf/encoding/protojson"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/model"
)

// checksText gives the attribute of each check, with how many values it has of either kind.
func checksText(lists [][]model.AuthCheck) string {
	out := [][]string{}
	for _, checks := range lists {
		one := []string{}
		for _, c := range checks {
			one = append(one, fmt.Sprintf("%d:%d/%d", c.About, len(c.Values), len(c.NotValues)))
		}
		out = append(out, one)
	}
	return fmt.Sprint(out)
}

// TestWrongPoliciesLetNobodyIn: what of a policy cannot be carried out allows nobody, and
// refuses as much as it can be said to.
func TestWrongPoliciesLetNobodyIn(t *testing.T) {
	for name, tt := range map[string]struct{ spec, want string }{
		"right":                {`{rules: [{from: [{source: {namespaces: [a]}}]}]}`, "ALLOW [from [[1:1/0]] to [] when 0]"},
		"allow, wrong value":   {`{rules: [{from: [{source: {ipBlocks: [x]}}]}, {}]}`, "ALLOW [from [] to [] when 0]"},
		"allow, unknown key":   {`{rules: [{when: [{key: x.y, values: [z]}]}]}`, "ALLOW []"},
		"allow, one of two":    {`{rules: [{from: [{source: {namespaces: [a]}}, {source: {ipBlocks: [x]}}]}]}`, "ALLOW []"},
		"deny, wrong value":    {`{action: DENY, rules: [{from: [{source: {namespaces: [a], ipBlocks: [x]}}]}]}`, "DENY [from [[1:1/0]] to [] when 0]"},
		"deny, nothing right":  {`{action: DENY, rules: [{to: [{operation: {ports: [http]}}]}]}`, "DENY [from [] to [[]] when 0]"},
		"deny, unknown key":    {`{action: DENY, rules: [{when: [{key: x.y, values: [z]}, {key: source.ip, values: ["::1"]}]}]}`, "DENY [from [] to [] when 1]"},
		"custom":               {`{action: CUSTOM, provider: {name: x}, rules: [{to: [{operation: {methods: [GET]}}]}]}`, fmt.Sprintf("DENY [from [] to [[%d:1/0]] when 0]", model.AuthMethod)},
		"audit":                {`{action: AUDIT, rules: [{}]}`, "none"},
		"about a gateway":      {`{targetRefs: [{kind: Gateway, name: g}]}`, "none"},
		"allow without a rule": {`{}`, "ALLOW []"},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := yaml.YAMLToJSON([]byte(tt.spec))
			if err != nil {
				t.Fatal(err)
			}
			spec := &security.AuthorizationPolicy{}
			if err := protojson.Unmarshal(raw, spec); err != nil {
				t.Fatal(err)
			}
			row := AuthorizationPolicy("c", &api.Object{Kind: api.KindAuthorizationPolicy, Namespace: "n", Name: "p", Spec: spec})
			got := "none"
			if row != nil {
				got = "ALLOW ["
				if row.Deny {
					got = "DENY ["
				}
				for _, r := range row.Rules {
					got += fmt.Sprintf("from %s to %s when %d", checksText(r.From), checksText(r.To), len(r.When))
				}
				got += "]"
			}
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
