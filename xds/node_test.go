package xds

import (
	"strings"
	"testing"
)

func TestParseNodeID(t *testing.T) {
	for _, good := range []string{
		"sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local",
		"router~fd00::1~gw.istio-system~istio-system.svc.example.org",
		"sidecar~10.0.0.1~web.with.dots.shop~shop.svc.cluster.local",
	} {
		n, err := ParseNodeID(good)
		if err != nil || n.String() != good {
			t.Errorf("ParseNodeID(%q) = %+v, %v", good, n, err)
		}
	}
	for bad, why := range map[string]string{
		"":                                  "1 parts",
		"~~~":                               "KIND is neither",
		"sidecar~10.0.0.1~a.b":              "3 parts",
		"ztunnel~10.0.0.1~a.b~b.svc.c":      "KIND is neither",
		"sidecar~x~a.b~b.svc.c":             "IP is not an address",
		"sidecar~fe80::1%eth0~a.b~b.svc.c":  "IP is not an address",
		"sidecar~10.0.0.1~a~a.svc.c":        "POD.NAMESPACE is incomplete",
		"sidecar~10.0.0.1~.b~b.svc.c":       "POD.NAMESPACE is incomplete",
		"sidecar~10.0.0.1~a.~.svc.c":        "POD.NAMESPACE is incomplete",
		"sidecar~10.0.0.1~a.b~c.svc.d":      "not of namespace b",
		"sidecar~10.0.0.1~a.b~b.svc.":       "not of namespace b",
		"sidecar~10.0.0.1~a.b~b.svc.c~more": "5 parts",
	} {
		if n, err := ParseNodeID(bad); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("ParseNodeID(%q) = %+v, %v; want an error with %q", bad, n, err, why)
		}
	}
}

// TestTypes: the order of the list and the rank are one.
func TestTypes(t *testing.T) {
	for i, typeURL := range Types() {
		if Rank(typeURL) != i || !Known(typeURL) {
			t.Errorf("%s: rank %d, want %d", typeURL, Rank(typeURL), i)
		}
	}
	if other := "type.googleapis.com/x.v1.Other"; Known(other) || Rank(other) != len(Types()) || Short(other) != "Other" {
		t.Errorf("%s: rank %d, short %q", other, Rank(other), Short(other))
	}
}

func FuzzParseNodeID(f *testing.F) {
	f.Add("sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local")
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseNodeID(s)
		if err == nil && (n.Namespace == "" || n.Pod == "" || !n.IP.IsValid() || strings.Contains(n.Namespace, "~")) {
			t.Errorf("accepted %q as %+v", s, n)
		}
	})
}
