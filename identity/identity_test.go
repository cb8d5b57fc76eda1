package identity_test

import (
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/identity"
)

func TestParse(t *testing.T) {
	good := map[string]identity.ID{
		"spiffe://cluster.local/ns/foo/sa/default": {
			TrustDomain:    "cluster.local",
			Namespace:      "foo",
			ServiceAccount: "default",
		},
		"spiffe://a_b-1.org/ns/istio-system/sa/x.y": {
			TrustDomain:    "a_b-1.org",
			Namespace:      "istio-system",
			ServiceAccount: "x.y",
		},
	}
	for s, want := range good {
		got, err := identity.Parse(s)
		if err != nil || got != want {
			t.Errorf("Parse(%q) = %+v, %v", s, got, err)
		}
		if got.String() != s || got.URI().String() != s {
			t.Errorf("%q comes back as %q and %q", s, got, got.URI())
		}
	}
	for _, s := range []string{
		"", "spiffe://", "cluster.local/ns/foo/sa/default", "SPIFFE://cluster.local/ns/foo/sa/default",
		"https://cluster.local/ns/foo/sa/default", "spiffe:///ns/foo/sa/default", "spiffe://cluster.local/ns//sa/default",
		"spiffe://cluster.local/ns/foo/sa/", "spiffe://cluster.local/ns/foo/sa/default/", "spiffe://cluster.local/ns/foo/sa/a/b",
		"spiffe://cluster.local:80/ns/foo/sa/a", "spiffe://u@cluster.local/ns/foo/sa/a", "spiffe://cluster.local/ns/foo/sa/a?x",
		"spiffe://cluster.local/ns/foo/sa/a#x", "spiffe://cluster.local/ns/%66oo/sa/a", "spiffe://Cluster.local/ns/foo/sa/a",
		"spiffe://cluster.local/ns/../sa/a", "spiffe://cluster.local/ns/foo/sa/..", "spiffe://cluster.local/sa/a/ns/foo",
		"spiffe://" + strings.Repeat("a", 256) + "/ns/foo/sa/a", " spiffe://cluster.local/ns/foo/sa/a",
	} {
		if id, err := identity.Parse(s); err == nil {
			t.Errorf("Parse(%q) = %v, want an error", s, id)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("spiffe://cluster.local/ns/foo/sa/default")
	f.Add("spiffe://cluster.local/ns/foo/sa/%2e")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := identity.Parse(s)
		if err != nil {
			return
		}
		if id.String() != s {
			t.Errorf("%q comes back as %q", s, id)
		}
		if id.URI().String() != s {
			t.Errorf("%q is the URI %q", s, id.URI())
		}
	})
}

func FuzzParseBundle(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := identity.ParseBundle(data)
		if err == nil && len(b.Certs) == 0 {
			t.Error("an empty bundle was accepted")
		}
	})
}
