package values

import (
	"slices"
	"strings"
	"testing"
)

// The two files of the guide for a control plane that clusters share.
const (
	sharedMain = `
values:
  global:
    multiCluster:
      clusterName: main0
    network: network1
    meshNetworks:
      network1:
        endpoints:
        - fromRegistry: main0
        gateways:
        - registry_service_name: istio-ingressgateway.istio-system.svc.cluster.local
          port: 443
      network2:
        endpoints:
        - fromRegistry: remote0
        gateways:
        - registry_service_name: istio-ingressgateway.istio-system.svc.cluster.local
          port: 443
components:
  pilot:
    k8s:
      service:
        type: LoadBalancer
      service_annotations:
        cloud.google.com/load-balancer-type: Internal
`
	sharedRemote = `
values:
  global:
    multiCluster:
      clusterName: remote0
    network: network2
    remotePilotAddress: 192.0.2.1
components:
  ingressGateways:
  - name: istio-ingressgateway
    enabled: false
`
)

// TestSharedControlPlane: the guide's files hold as they are, by either profile.
func TestSharedControlPlane(t *testing.T) {
	for name, in := range map[string]Input{
		"main":           {Files: []File{file(sharedMain)}},
		"remote":         {Files: []File{file(sharedRemote)}},
		"profile remote": {Files: []File{file(sharedRemote)}, Sets: []string{"profile=remote"}},
		"remote by name": {Files: []File{file(sharedRemote)}, Sets: []string{"values.global.remotePilotAddress=pilot.example"}},
	} {
		if got := resolve(t, in).Warnings; len(got) > 0 {
			t.Errorf("%s: warnings %q", name, got)
		}
	}
}

// TestClusters: what is wrong between clusters is refused, with the key.
func TestClusters(t *testing.T) {
	const networks = "values.global.meshNetworks."
	for _, tc := range []struct {
		files []string
		sets  []string
		want  string
	}{
		{nil, []string{"values.global.multiCluster.clusterName=a_b"}, `values.global.multiCluster.clusterName: "a_b" is not a cluster's name`},
		{nil, []string{"values.global.multiCluster.clusterName=" + strings.Repeat("a", 64)}, "is not a cluster's name"},
		{nil, []string{"values.global.multiCluster.clusterName=-a"}, "is not a cluster's name"},
		{nil, []string{"values.global.network=a b"}, `values.global.network: "a b" does not do`},
		{nil, []string{"values.global.remotePilotAddress=https://x"}, `values.global.remotePilotAddress: "https://x" is neither`},
		{nil, []string{"values.global.remotePilotAddress=192.0.2.1:15012"}, "neither an IP address nor a DNS name"},
		{nil, []string{"values.global.remotePilotAddress=127.0.0.1"}, "leads to no other machine"},
		{nil, []string{networks + "n.gateways[0].address=192.0.2.1"}, networks + "n.gateways[0]: port is missing"},
		{nil, []string{networks + "n.endpoints[0].fromCidr=10.0.0.1"}, networks + `n.endpoints[0]: fromCidr "10.0.0.1"`},
		{[]string{sharedMain}, []string{"values.global.network=network2"}, `values.global.network: "network2", and values.global.meshNetworks has cluster main0 in network "network1"`},
		{[]string{sharedMain}, []string{networks + "network2.endpoints[0].fromRegistry=main0"}, networks + "network2.endpoints[0]: cluster main0 is in network network1 already"},
		// What empty shell variables leave of the guide's files.
		{[]string{strings.Replace(sharedRemote, "192.0.2.1", "", 1)}, nil, "values.global.remotePilotAddress: there is no value"},
		{[]string{strings.Replace(sharedMain, "main0", "", 1)}, nil, "values.global.multiCluster.clusterName: there is no value"},
		{[]string{strings.Replace(sharedMain, "network: network1", "network:", 1)}, nil, "values.global.network: there is no value"},
		{[]string{strings.Replace(sharedMain, "      network2:", "      \"\":", 1)}, nil, "is no name of a network"},
		{[]string{strings.Replace(sharedMain, "fromRegistry: remote0", "fromRegistry:", 1)}, nil, networks + "network2.endpoints[0]: it names neither"},
	} {
		in := Input{Sets: tc.sets}
		for _, f := range tc.files {
			in.Files = append(in.Files, file(f))
		}
		if _, err := Resolve(in); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q %q: %v, which does not say %q", tc.files, tc.sets, err, tc.want)
		}
	}

	for _, name := range []string{"main0", "Kubernetes", "a", "0-9"} {
		if err := CheckClusterName(name); err != nil {
			t.Error(err)
		}
	}
	// Over a file that says it, no value takes it away.
	resolve(t, Input{Files: []File{file(sharedRemote), file("values: {global: {remotePilotAddress: }}\n")}})
}

// TestClusterDoubts: what holds and is most likely not meant is warned of.
func TestClusterDoubts(t *testing.T) {
	for _, tc := range []struct {
		sets []string
		want []string
	}{
		{[]string{"profile=remote"}, []string{"values.global.remotePilotAddress: not given"}},
		{[]string{"values.global.remotePilotAddress=192.0.2.1"}, []string{`values.global.multiCluster.clusterName: not given, so that this cluster is "Kubernetes"`}},
		{[]string{"values.global.meshNetworks.n.endpoints[0].fromRegistry=x", "values.global.meshNetworks.n.gateways[0].address=192.0.2.1", "values.global.meshNetworks.n.gateways[0].port=1"},
			[]string{"values.global.meshNetworks: no network has the endpoint fromRegistry: Kubernetes"}},
		{[]string{"values.global.network=n", "values.global.meshNetworks.n.endpoints[0].fromRegistry=Kubernetes"}, []string{"values.global.meshNetworks.n: has no gateways"}},
	} {
		if got := resolve(t, Input{Sets: tc.sets}).Warnings; !slices.EqualFunc(got, tc.want, strings.HasPrefix) {
			t.Errorf("%q: warnings %q, want %q", tc.sets, got, tc.want)
		}
	}
}

// TestInjectionPath: the path by which a remote cluster's injector is told its
// cluster and network names both, where nothing else does.
func TestInjectionPath(t *testing.T) {
	const path = "values.istiodRemote.injectionPath=/inject/cluster/cluster2/net/network1"
	for _, tc := range []struct {
		sets             []string
		cluster, network string
	}{
		{[]string{path}, "cluster2", "network1"},
		{[]string{path, "values.global.network=n"}, "cluster2", "n"},
		{[]string{path, "values.global.multiCluster.clusterName=c"}, "c", "network1"},
		{[]string{"values.istiodRemote.injectionPath=/inject"}, "Kubernetes", ""},
		{[]string{"values.istiodRemote.injectionPath=/inject/cluster/c/net/"}, "c", ""},
	} {
		c := resolve(t, Input{Sets: tc.sets})
		if c.ClusterName() != tc.cluster || c.Spec.Values.Global.Network != tc.network {
			t.Errorf("%q: cluster %q, network %q", tc.sets, c.ClusterName(), c.Spec.Values.Global.Network)
		}
		if got := Section(c.Tree, "values", "global")["network"]; tc.network != "" && got != tc.network {
			t.Errorf("%q: the charts see network %v", tc.sets, got)
		}
	}
	for set, want := range map[string]string{
		"values.istiodRemote.injectionPath=/inject/cluster/c": "is neither /inject nor",
		"values.istiodRemote.injectionPath=/other":            "is neither /inject nor",
	} {
		if _, err := Resolve(Input{Sets: []string{set}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", set, err)
		}
	}
	resolve(t, Input{Files: []File{{Name: "eastwest.yaml", Data: []byte(`
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
metadata: {name: eastwest}
spec:
  profile: empty
  values: {global: {externalIstiod: true}}
  components:
    ingressGateways:
    - {name: istio-eastwestgateway, enabled: true}
`)}}})
	resolve(t, Input{Sets: []string{"values.global.externalIstiod=true"}})
	if _, err := Resolve(Input{Sets: []string{"values.global.externalIstiod=true", "profile=empty"}}); err == nil || !strings.Contains(err.Error(), "values.global.externalIstiod: true") {
		t.Errorf("externalIstiod without a control plane: %v", err)
	}
}
