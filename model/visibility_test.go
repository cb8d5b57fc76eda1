package model

import "testing"

func TestLabelSelector(t *testing.T) {
	labels := map[string]string{"team": "a", "env": "prod"}
	expression := func(key, operator string, values ...string) LabelSelector {
		return LabelSelector{Expressions: []LabelExpression{{key, operator, values}}}
	}
	for what, tt := range map[string]struct {
		selector LabelSelector
		want     bool
	}{
		"nothing asked":          {LabelSelector{}, true},
		"a label":                {LabelSelector{Labels: map[string]string{"team": "a"}}, true},
		"another value":          {LabelSelector{Labels: map[string]string{"team": "b"}}, false},
		"another label":          {LabelSelector{Labels: map[string]string{"team": "a", "x": ""}}, false},
		"In":                     {expression("env", "In", "test", "prod"), true},
		"In others":              {expression("env", "In", "test"), false},
		"In, not there":          {expression("x", "In", ""), false},
		"NotIn":                  {expression("env", "NotIn", "test"), true},
		"NotIn, there":           {expression("env", "NotIn", "prod"), false},
		"NotIn, not there":       {expression("x", "NotIn", "prod"), true},
		"Exists":                 {expression("env", "Exists"), true},
		"Exists, not there":      {expression("x", "Exists"), false},
		"DoesNotExist":           {expression("x", "DoesNotExist"), true},
		"DoesNotExist, there":    {expression("env", "DoesNotExist"), false},
		"an operator of no kind": {expression("env", "Like", "prod"), false},
	} {
		if got := tt.selector.Selects(labels); got != tt.want {
			t.Errorf("%s: %t, want %t", what, got, tt.want)
		}
	}
}

// TestClusterLocal: the most specific setting counts, and the last of its kind.
func TestClusterLocal(t *testing.T) {
	m := DefaultMesh("c1")
	m.HostSettings = append(m.HostSettings,
		HostSetting{"*.a.svc.cluster.local", true},
		HostSetting{"open.a.svc.cluster.local", false},
		HostSetting{"*.kube-system.svc.cluster.local", false},
	)
	for host, want := range map[string]bool{
		"web.a.svc.cluster.local":                      true,
		"open.a.svc.cluster.local":                     false,
		"web.b.svc.cluster.local":                      false,
		"kubernetes.default.svc.cluster.local":         true,
		"other.default.svc.cluster.local":              false,
		"metrics-server.kube-system.svc.cluster.local": false,
	} {
		if got := m.ClusterLocal(host); got != want {
			t.Errorf("%s: %t, want %t", host, got, want)
		}
	}
	if !DefaultMesh("c1").ClusterLocal("kube-dns.kube-system.svc.cluster.local") {
		t.Error("kube-system is not local by default")
	}
	m.HostSettings = append(m.HostSettings, HostSetting{"*", true})
	if !m.ClusterLocal("web.b.svc.cluster.local") || m.ClusterLocal("open.a.svc.cluster.local") {
		t.Error("*")
	}
}

// TestExports: who sees what does not say so itself.
func TestExports(t *testing.T) {
	for _, tt := range []struct {
		exports     Exports
		own, client string
		want        bool
	}{
		{nil, "a", "b", true},
		{Exports{"."}, "a", "a", true},
		{Exports{"."}, "a", "b", false},
		{Exports{"~"}, "a", "a", false},
		{Exports{"b"}, "a", "b", true},
		{Exports{"b"}, "a", "a", false},
	} {
		svc := &Service{Namespace: tt.own, ExportByDefault: true}
		rule := &DestinationRule{Namespace: tt.own, ExportByDefault: true}
		if svc.VisibleIn(tt.client, tt.exports) != tt.want || rule.VisibleIn(tt.client, tt.exports) != tt.want {
			t.Errorf("%v: of %s in %s: want %t", tt.exports, tt.own, tt.client, tt.want)
		}
	}
	if !(&Service{Namespace: "a"}).VisibleIn("b", Exports{"."}) {
		t.Error("the default holds for what is exported to all")
	}
}
