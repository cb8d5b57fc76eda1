package api

import (
	"testing"

	meshconfig "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"

	"google.golang.org/protobuf/encoding/protojson"
)

func TestDurationsAsPeopleWriteThem(t *testing.T) {
	for text, want := range map[string]string{
		"500ms":   "0.500s",
		"1h30m":   "5400s",
		"3m":      "180s",
		"1.5s":    "1.500s",
		"10s":     "10s",
		"-250ms":  "-0.250s",
		"-1500ms": "-1.500s",
		"1ns":     "0.000000001s",
	} {
		mc, warnings, err := LoadMeshConfig("defaultConfig: {terminationDrainDuration: " + text + "}")
		if err != nil || len(warnings) > 0 {
			t.Errorf("%s: %v %v", text, warnings, err)
			continue
		}
		got, err := protojson.Marshal(mc.DefaultConfig.TerminationDrainDuration)
		if err != nil || string(got) != `"`+want+`"` {
			t.Errorf("%s became %s, want %s (%v)", text, got, want, err)
		}
	}
}

// TestDurationsAreFoundAnywhere: in lists, maps, nested messages, under either
// spelling of a field, and nowhere else.
func TestDurationsAreFoundAnywhere(t *testing.T) {
	raw := `{
		"host": "3m",
		"trafficPolicy": {
			"connectionPool": {"tcp": {"connectTimeout": "30ms"}, "http": {"idleTimeout": "1m"}},
			"outlier_detection": {"base_ejection_time": "3m"},
			"portLevelSettings": [{"outlierDetection": {"interval": "1s500ms"}}]
		}
	}`
	dr := &networking.DestinationRule{}
	if err := protojson.Unmarshal(PlainDurations([]byte(raw), dr.ProtoReflect().Descriptor()), dr); err != nil {
		t.Fatal(err)
	}
	pool := dr.TrafficPolicy.ConnectionPool
	if dr.Host != "3m" || pool.Tcp.ConnectTimeout.AsDuration().Milliseconds() != 30 || pool.Http.IdleTimeout.AsDuration().Seconds() != 60 ||
		dr.TrafficPolicy.OutlierDetection.BaseEjectionTime.AsDuration().Minutes() != 3 ||
		dr.TrafficPolicy.PortLevelSettings[0].OutlierDetection.Interval.AsDuration().Milliseconds() != 1500 {
		t.Errorf("decoded as %v", dr)
	}
	bad := &meshconfig.MeshConfig{}
	if err := protojson.Unmarshal(PlainDurations([]byte(`{"connectTimeout": "soon"}`), bad.ProtoReflect().Descriptor()), bad); err == nil {
		t.Error("\"soon\" was taken for a duration")
	}
}
