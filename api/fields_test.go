package api

import (
	"slices"
	"testing"
)

// TestFields: what is listed as honoured is what Validate takes, of every kind.
func TestFields(t *testing.T) {
	for _, k := range Kinds() {
		fields := Fields(k)
		if len(fields) == 0 || newSpec(k) == nil || honouredFields(k) == nil {
			t.Errorf("%s is a kind that is honoured, and has no fields", k)
		}
	}

	rule := Fields(KindDestinationRule)
	for _, want := range []Field{
		{Path: "spec.host", Honoured: true},
		{Path: "spec.subsets[].labels{}", Honoured: true},
		{Path: "spec.trafficPolicy.portLevelSettings[].port.number", Honoured: true},
		{Path: "spec.trafficPolicy.tunnel", Honoured: false},
	} {
		if !slices.Contains(rule, want) {
			t.Errorf("of a DestinationRule %+v is not listed", want)
		}
	}
	if mesh := MeshFields(); !slices.Contains(mesh, Field{Path: "trustDomain", Honoured: true}) || !slices.Contains(mesh, Field{Path: "proxyHttpPort"}) {
		t.Error("of MeshConfig trustDomain (honoured) and proxyHttpPort (not) are not listed")
	}
	if got := Fields("EnvoyFilter"); got != nil {
		t.Errorf("of a kind that is not honoured %d fields are listed", len(got))
	}
}
