package nodeconf_test

import (
	"crypto/tls"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/lab/internal/nodeconf"
	"github.com/isthmus-mesh/isthmus/lab/internal/plan"
)

func node(t *testing.T, network plan.Network) nodeconf.Node {
	t.Helper()
	lab, err := plan.New("demo", 3, network, plan.DefaultKubernetes)
	if err != nil {
		t.Fatal(err)
	}
	lab.BinDirs = []string{"/cache/kubernetes", "/cache/etcd"}
	return nodeconf.Node{Lab: lab, Cluster: lab.Clusters[1]}
}

func TestComponentFilesNameTheCluster(t *testing.T) {
	files, err := node(t, plan.MultiNetwork).ComponentFiles()
	if err != nil {
		t.Fatal(err)
	}
	for name, wants := range map[string][]string{
		"audit.json":             {`"system:serviceaccounts"`},
		"kubelet.json":           {`"10.112.0.10"`, `"/isthmus-lab/demo/cluster-2"`},
		"kube-proxy.json":        {`"nftables"`, `"cluster-2-node"`, `"10.12.0.0/24"`},
		"cni/10-pods.conflist":   {`"10.12.0.0/24"`, `"ptp"`},
		"containerd.toml":        {`snapshotter = "overlayfs"`, nodeconf.PauseImage},
		"containerd-native.toml": {`snapshotter = "native"`},
		"resolv.conf":            {"nameserver 172.30.2.1"},
	} {
		for _, want := range wants {
			if !strings.Contains(string(files[name]), want) {
				t.Errorf("no %s in %s:\n%s", want, name, files[name])
			}
		}
		if (strings.HasSuffix(name, ".json") || strings.HasSuffix(name, ".conflist")) && !json.Valid(files[name]) {
			t.Errorf("%s is no JSON", name)
		}
	}
}

func TestMasqueradeFollowsTheNetwork(t *testing.T) {
	for network, others := range map[plan.Network]bool{plan.MultiNetwork: false, plan.SingleNetwork: true} {
		files, err := node(t, network).ComponentFiles()
		if err != nil {
			t.Fatal(err)
		}
		rules := string(files["node.nft"])
		if !strings.Contains(rules, "10.12.0.0/24") {
			t.Errorf("%s: the node's own pods are hidden from each other:\n%s", network, rules)
		}
		if got := strings.Contains(rules, "10.13.0.0/24"); got != others {
			t.Errorf("%s: reaching the pods of cluster-3 as they are: %v, want %v", network, got, others)
		}
	}
}

func TestSecretsFitTogether(t *testing.T) {
	files, err := node(t, plan.MultiNetwork).Secrets(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name := range files {
		if base, ok := strings.CutSuffix(name, ".crt"); ok && files[base+".key"] != nil {
			if _, err := tls.X509KeyPair(files[name], files[base+".key"]); err != nil {
				t.Errorf("%s: %v", base, err)
			}
		}
	}
	for _, name := range []string{nodeconf.CAFile, nodeconf.AdminCertFile, nodeconf.AdminKeyFile, "sa.key", "sa.pub", "kubelet.kubeconfig"} {
		if len(files[name]) == 0 {
			t.Errorf("no %s", name)
		}
	}
}

// TestProcessesUseExistingFiles checks that every file named on a command line
// is one that the node has.
func TestProcessesUseExistingFiles(t *testing.T) {
	n := node(t, plan.MultiNetwork)
	files, err := n.ComponentFiles()
	if err != nil {
		t.Fatal(err)
	}
	secrets, err := n.Secrets(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, native := range []bool{false, true} {
		for _, p := range n.Processes(native) {
			for _, arg := range p.Args {
				_, name, found := strings.Cut(arg, nodeconf.ConfigDir+"/")
				if found && files[name] == nil && secrets[name] == nil {
					t.Errorf("%s wants %s, which nobody makes", p.Name, name)
				}
			}
		}
	}
}

func TestKubeconfigListsContexts(t *testing.T) {
	got := string(nodeconf.Kubeconfig([]nodeconf.Context{
		{
			Name:   "cluster-1",
			Server: "https://127.0.0.1:1",
		}, {
			Name:   "cluster-2",
			Server: "https://127.0.0.1:2",
		},
	}))
	if !strings.Contains(got, "current-context: cluster-1\n") || strings.Count(got, "- name: cluster-2\n") != 3 {
		t.Errorf("got\n%s", got)
	}
}
