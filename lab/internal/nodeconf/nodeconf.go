// Package nodeconf works out what a cluster's node needs: configuration
// files, certificates, and the command line of each component. It is pure: it
// returns bytes and argument lists, and neither writes nor starts anything.
package nodeconf

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/isthmus-mesh/isthmus/lab/internal/plan"
)

// Directories as the components see them, inside the machine.
const (
	// ConfigDir is where the files of Files appear.
	ConfigDir = "/run/lab/config"
	// BinDir holds one numbered directory per directory of binaries.
	BinDir = "/run/lab/bin"
	// CNIBinDir is where Debian keeps the CNI plugins.
	CNIBinDir = "/usr/lib/cni"
	// ContainerdSocket is containerd's address.
	ContainerdSocket = "/run/containerd/containerd.sock"
)

// PauseImage is the image of the container that holds a pod's namespaces.
const PauseImage = "docker.io/isthmus-lab/pause:v1"

// Node is one node, with what its configuration depends on.
type Node struct {
	Lab     *plan.Lab
	Cluster plan.Cluster
}

// CgroupRoot is the parent, in every cgroup hierarchy, of the node's pods.
func (n Node) CgroupRoot() string {
	return CgroupOf(n.Lab.Name) + "/" + n.Cluster.Name()
}

// CgroupOf is the parent of all cgroups of a lab.
func CgroupOf(lab string) string { return "/isthmus-lab/" + lab }

// SearchPath is the PATH inside the machine.
func (n Node) SearchPath() string {
	var dirs []string
	for i := range n.Lab.BinDirs {
		dirs = append(dirs, fmt.Sprintf("%s/%d", BinDir, i))
	}
	return strings.Join(append(dirs, "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"), ":")
}

// ComponentFiles are the configuration files without secrets, by name. They
// are written anew at every `lab up`.
func (n Node) ComponentFiles() (map[string][]byte, error) {
	kubelet, err := asJSON(n.kubeletConfig())
	if err != nil {
		return nil, err
	}

	proxy, err := asJSON(n.kubeProxyConfig())
	if err != nil {
		return nil, err
	}

	cni, err := asJSON(n.cniConfig())
	if err != nil {
		return nil, err
	}

	audit, err := asJSON(auditPolicy())
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		"audit.json":             audit,
		"kubelet.json":           kubelet,
		"kube-proxy.json":        proxy,
		"cni/10-pods.conflist":   cni,
		"containerd.toml":        []byte(n.containerdConfig("overlayfs")),
		"containerd-native.toml": []byte(n.containerdConfig("native")),
		"node.nft":               []byte(n.packetRules()),
		"resolv.conf":            []byte(n.resolvConf()),
	}, nil
}

func asJSON(v any) ([]byte, error) {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode configuration: %w", err)
	}
	return append(raw, '\n'), nil
}

type object = map[string]any

// AuditLog is the file, on the node, in which the API server notes what service
// accounts ask of it, those of Kubernetes itself aside: one JSON object (Event,
// audit.k8s.io/v1) for each request, without bodies.
const AuditLog = "/var/log/lab/audit.log"

func auditPolicy() object {
	return object{
		"apiVersion": "audit.k8s.io/v1", "kind": "Policy",
		"omitStages": []string{"RequestReceived"},
		"rules": []object{
			{"level": "None", "userGroups": []string{"system:serviceaccounts:kube-system"}},
			{"level": "Metadata", "userGroups": []string{"system:serviceaccounts"}},
			{"level": "None"},
		},
	}
}

func (n Node) kubeletConfig() object {
	return object{
		"apiVersion":               "kubelet.config.k8s.io/v1beta1",
		"kind":                     "KubeletConfiguration",
		"address":                  "0.0.0.0",
		"healthzBindAddress":       "127.0.0.1",
		"rotateCertificates":       false,
		"tlsCertFile":              ConfigDir + "/kubelet.crt",
		"tlsPrivateKeyFile":        ConfigDir + "/kubelet.key",
		"authentication":           object{"anonymous": object{"enabled": false}, "webhook": object{"enabled": true}, "x509": object{"clientCAFile": ConfigDir + "/ca.crt"}},
		"authorization":            object{"mode": "Webhook"},
		"clusterDNS":               []string{n.Cluster.DNSServiceIP().String()},
		"clusterDomain":            "cluster.local",
		"resolvConf":               ConfigDir + "/resolv.conf",
		"cgroupDriver":             "cgroupfs",
		"cgroupRoot":               n.CgroupRoot(),
		"cgroupsPerQOS":            true,
		"enforceNodeAllocatable":   []string{},
		"failCgroupV1":             false,
		"failSwapOn":               false,
		"oomScoreAdj":              0,
		"makeIPTablesUtilChains":   false,
		"containerRuntimeEndpoint": "unix://" + ContainerdSocket,
		"serializeImagePulls":      false,
		"volumePluginDir":          "/var/lib/kubelet/volume-plugins",
		// ConfigMap and Secret volumes follow the API within seconds.
		"configMapAndSecretChangeDetectionStrategy": "Watch",
		"syncFrequency": "3s",
		// The disk is the user's own: a full one evicts nothing here.
		"imageGCHighThresholdPercent":      100,
		"evictionHard":                     object{"imagefs.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%"},
		"evictionPressureTransitionPeriod": "0s",
	}
}

func (n Node) kubeProxyConfig() object {
	return object{
		"apiVersion":         "kubeproxy.config.k8s.io/v1alpha1",
		"kind":               "KubeProxyConfiguration",
		"mode":               "nftables",
		"clusterCIDR":        n.Cluster.PodCIDR().String(),
		"hostnameOverride":   n.Cluster.NodeName(),
		"bindAddress":        n.Cluster.NodeIP().String(),
		"healthzBindAddress": "127.0.0.1:10256",
		"metricsBindAddress": "127.0.0.1:10249",
		"clientConnection":   object{"kubeconfig": ConfigDir + "/kube-proxy.kubeconfig"},
		// Limits of the connection table are the host's business.
		"conntrack":   object{"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
		"nftables":    object{"syncPeriod": "30s", "minSyncPeriod": "100ms"},
		"oomScoreAdj": 0,
	}
}

func (n Node) cniConfig() object {
	return object{
		"cniVersion": "0.4.0",
		"name":       "pods",
		"plugins": []object{
			{
				"type": "ptp",
				"mtu":  1500,
				"ipam": object{
					"type":    "host-local",
					"dataDir": "/run/cni-ipam",
					"ranges":  [][]object{{{"subnet": n.Cluster.PodCIDR().String()}}},
					"routes":  []object{{"dst": "0.0.0.0/0"}},
				},
			},
			{"type": "portmap", "capabilities": object{"portMappings": true}, "snat": true},
		},
	}
}

func (n Node) containerdConfig(snapshotter string) string {
	return fmt.Sprintf(`version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.erofs",
  "io.containerd.nri.v1.nri",
  "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
  address = %q

[plugins."io.containerd.cri.v1.images"]
  snapshotter = %q
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = %q

[plugins."io.containerd.cri.v1.runtime"]
  # Without CAP_SYS_RESOURCE runc could not lower a score.
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = [%q]
    conf_dir = %q
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      SystemdCgroup = false
`, ContainerdSocket, snapshotter, PauseImage, CNIBinDir, ConfigDir+"/cni")
}

// packetRules let pods reach what lies outside their own cluster under the
// node's address. On a single network the pods of the other clusters are
// reached, and see their callers, as they are.
func (n Node) packetRules() string {
	direct := []string{n.Cluster.PodCIDR().String()}
	if n.Lab.Network == plan.SingleNetwork {
		direct = nil
		for _, c := range n.Lab.Clusters {
			direct = append(direct, c.PodCIDR().String())
		}
	}

	return fmt.Sprintf(`table ip isthmus-lab
delete table ip isthmus-lab
table ip isthmus-lab {
	chain postrouting {
		type nat hook postrouting priority srcnat + 10; policy accept;
		oifname "eth0" ip saddr %s ip daddr != { %s } masquerade
	}
}
`, n.Cluster.PodCIDR(), strings.Join(direct, ", "))
}

// resolvConf names the fabric's end of the node's cable, where the lab's agent
// answers that it knows no name outside the clusters.
func (n Node) resolvConf() string {
	return fmt.Sprintf("nameserver %s\noptions timeout:1 attempts:1\n", n.Cluster.GatewayIP())
}
