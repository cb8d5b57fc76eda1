package values

import (
	"slices"
	"strings"
	"testing"
)

func file(spec string) File {
	var b strings.Builder
	b.WriteString("apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec:\n")
	for line := range strings.Lines(spec) {
		b.WriteString("  " + line)
	}
	return File{Name: "f.yaml", Data: []byte(b.String())}
}

func resolve(t *testing.T, in Input) *Config {
	t.Helper()
	if in.Hub == "" {
		in.Hub, in.Tag = "default.hub", "default.tag"
	}
	c, err := Resolve(in)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPrecedence(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   Input
		got  func(*Config) any
		want any
	}{
		{"nothing given", Input{}, func(c *Config) any { return c.Profile + " " + c.Namespace + " " + c.Revision }, "default istio-system default"},
		{"built-in hub", Input{}, func(c *Config) any { return c.Spec.Hub + ":" + c.Spec.Tag }, "default.hub:default.tag"},
		{"a file's hub", Input{Files: []File{file("hub: f\n")}}, func(c *Config) any { return c.Spec.Hub }, "f"},
		{"hub in its older place", Input{Files: []File{file("values: {global: {hub: g, tag: 1.6}}\n")}}, func(c *Config) any { return c.Spec.Hub + ":" + c.Spec.Tag }, "g:1.6"},
		{"later files win", Input{Files: []File{file("hub: f\n"), file("hub: g\n")}}, func(c *Config) any { return c.Spec.Hub }, "g"},
		{"sets win over files", Input{Files: []File{file("hub: f\n")}, Sets: []string{"hub=s"}}, func(c *Config) any { return c.Spec.Hub }, "s"},
		{"the profile is below all files", Input{Files: []File{file("meshConfig: {accessLogFile: /x}\n"), file("profile: demo\n")}}, func(c *Config) any { return c.Tree["meshConfig"].(map[string]any)["accessLogFile"] }, "/x"},
		{"a set's profile wins", Input{Files: []File{file("profile: demo\n")}, Sets: []string{"profile=minimal"}}, func(c *Config) any { return c.Profile }, "minimal"},
		{"the control plane's namespace", Input{Sets: []string{"values.global.istioNamespace=mesh"}}, func(c *Config) any { return c.Namespace }, "mesh"},
		{"in its newer place", Input{Sets: []string{"namespace=mesh"}}, func(c *Config) any { return c.Namespace }, "mesh"},
		{"the flag's revision wins", Input{Sets: []string{"revision=a"}, Revision: "b"}, func(c *Config) any { return c.Revision }, "b"},
		{"values switch a gateway", Input{Sets: []string{"values.gateways.istio-egressgateway.enabled=true"}}, func(c *Config) any { return c.Spec.Components.EgressGateways[0].On() }, true},
		{"values switch the DNS server", Input{Sets: []string{"values.istiocoredns.enabled=true"}}, func(c *Config) any { return c.Spec.AddonComponents.IstioCoreDNS.On() }, true},
		{"older place of the access log", Input{Sets: []string{"values.global.proxy.accessLogFile=/y"}}, func(c *Config) any { return c.Tree["meshConfig"].(map[string]any)["accessLogFile"] }, "/y"},
		{"newer place of the access log", Input{Sets: []string{"values.global.proxy.accessLogFile=/y", "meshConfig.accessLogFile=/z"}}, func(c *Config) any { return c.Tree["meshConfig"].(map[string]any)["accessLogFile"] }, "/z"},
		{"one trust domain", Input{Sets: []string{"meshConfig.trustDomain=td"}}, func(c *Config) any { return c.Spec.Values.Global.TrustDomain }, "td"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.got(resolve(t, tc.in)); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	for _, tc := range []struct {
		in   Input
		want string
	}{
		{Input{Sets: []string{"profile=sdm"}}, `no profile "sdm"; there are default, demo, empty, minimal, preview, remote`},
		{Input{Files: []File{file("hubb: x\n")}}, "f.yaml: line 4: spec.hubb"},
		{Input{Sets: []string{"namespace=Bad_Name"}}, "is not a namespace's name"},
		{Input{Sets: []string{"namespace=a", "values.global.istioNamespace=b"}}, `values.global.istioNamespace: "b", and namespace is "a"`},
		{Input{Sets: []string{"components.pilot.namespace=b"}}, "components.pilot.namespace"},
		{Input{Sets: []string{"values.gateways.istio-ingressgateway.name=b"}}, "values.gateways.istio-ingressgateway.name"},
		{Input{Sets: []string{"values.global.proxy.clusterDomain=a b"}}, `values.global.proxy.clusterDomain: "a b" is not a DNS domain`},
		{Input{Sets: []string{"values.global.multiCluster.globalDomainSuffix=cluster.local"}}, "is the cluster's own domain"},
		{Input{Sets: []string{"revision=1.6.5"}}, "is not a DNS label"},
		{Input{Sets: []string{"values.gateways.istio-ingresgateway.type=ClusterIP"}}, "no gateway of this name"},
		{Input{Sets: []string{"components.ingressGateways[name:a].enabled=true", "components.egressGateways[name:a].enabled=true"}}, "another one of this name"},
	} {
		if _, err := Resolve(tc.in); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, which does not say %q", tc.in, err, tc.want)
		}
	}
}

func TestProfiles(t *testing.T) {
	if got := Profiles(); !slices.IsSorted(got) || len(got) != 6 {
		t.Errorf("profiles: %v", got)
	}
	on := func(c *Config) string {
		var out []string
		add := func(name string, on bool) {
			if on {
				out = append(out, name)
			}
		}
		add("base", c.Spec.Components.Base.On())
		add("pilot", c.Spec.Components.Pilot.On())
		add("ingress", c.Spec.Components.IngressGateways[0].On())
		add("egress", c.Spec.Components.EgressGateways[0].On())
		add("dns", c.Spec.AddonComponents.IstioCoreDNS.On())
		return strings.Join(out, " ")
	}
	for profile, want := range map[string]string{
		"default": "base pilot ingress", "demo": "base pilot ingress egress", "minimal": "base pilot",
		"remote": "base pilot ingress", "preview": "base pilot ingress", "empty": "",
	} {
		if got := on(resolve(t, Input{Sets: []string{"profile=" + profile}})); got != want {
			t.Errorf("profile %s turns on %q, not %q", profile, got, want)
		}
	}
}
