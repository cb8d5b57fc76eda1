package nodeconf

import "strings"

// Process is a component that the machine keeps running.
type Process struct {
	Name string
	Args []string
	// After is what must hold before the first start; nil starts at once.
	After *Probe
}

// Probe asks whether a component serves.
type Probe struct {
	// Socket is a Unix socket that must accept a connection.
	Socket string
	// URL must answer 200; the certificate is checked against CA.
	URL string
	CA  string
}

// Processes lists the node's components in the order of their first start.
// nativeSnapshots chooses plain copies over overlay mounts for images.
func (n Node) Processes(nativeSnapshots bool) []Process {
	api := &Probe{URL: "https://" + n.Cluster.APIAddr().String() + "/readyz", CA: ConfigDir + "/" + CAFile}
	containerdConf := ConfigDir + "/containerd.toml"
	if nativeSnapshots {
		containerdConf = ConfigDir + "/containerd-native.toml"
	}

	return []Process{
		{Name: "etcd", Args: n.etcdArgs()},
		{Name: "kube-apiserver", Args: n.apiserverArgs()},
		{Name: "containerd", Args: []string{"containerd", "--config", containerdConf}},
		{Name: "kube-controller-manager", Args: n.controllerManagerArgs(), After: api},
		{Name: "kube-scheduler", After: api, Args: []string{
			"kube-scheduler", "--bind-address=127.0.0.1", "--leader-elect=false", "--profiling=false",
			"--kubeconfig=" + ConfigDir + "/scheduler.kubeconfig",
			"--authentication-kubeconfig=" + ConfigDir + "/scheduler.kubeconfig",
			"--authorization-kubeconfig=" + ConfigDir + "/scheduler.kubeconfig",
		}},
		{Name: "kubelet", Args: n.kubeletArgs(), After: api},
		{Name: "kube-proxy", After: api, Args: []string{"kube-proxy", "--config=" + ConfigDir + "/kube-proxy.json"}},
	}
}

func (n Node) etcdArgs() []string {
	const client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
	return []string{
		"etcd", "--name=" + n.Cluster.NodeName(), "--data-dir=/var/lib/etcd",
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=" + n.Cluster.NodeName() + "=" + peer,
		// A killed process loses nothing that reached the page cache, and
		// the lab does not promise to outlive the host's own power cut.
		"--unsafe-no-fsync", "--auto-compaction-retention=5m", "--quota-backend-bytes=1073741824",
		"--log-level=warn",
	}
}

func (n Node) apiserverArgs() []string {
	c := ConfigDir
	return []string{
		"kube-apiserver",
		"--advertise-address=" + n.Cluster.NodeIP().String(), "--secure-port=6443",
		"--etcd-servers=http://127.0.0.1:2379",
		"--service-cluster-ip-range=" + n.Cluster.ServiceCIDR().String(),
		"--allow-privileged=true", "--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction", "--profiling=false",
		"--client-ca-file=" + c + "/ca.crt",
		"--tls-cert-file=" + c + "/apiserver.crt", "--tls-private-key-file=" + c + "/apiserver.key",
		"--kubelet-certificate-authority=" + c + "/ca.crt",
		"--kubelet-client-certificate=" + c + "/apiserver-kubelet-client.crt",
		"--kubelet-client-key=" + c + "/apiserver-kubelet-client.key",
		"--kubelet-preferred-address-types=InternalIP,Hostname",
		"--proxy-client-cert-file=" + c + "/front-proxy-client.crt",
		"--proxy-client-key-file=" + c + "/front-proxy-client.key",
		"--requestheader-client-ca-file=" + c + "/front-proxy-ca.crt",
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + c + "/sa.pub",
		"--service-account-signing-key-file=" + c + "/sa.key",
		"--audit-policy-file=" + c + "/audit.json", "--audit-log-path=" + AuditLog,
		"--audit-log-maxsize=64", "--audit-log-maxbackup=1", // MiB; files
	}
}

func (n Node) controllerManagerArgs() []string {
	c := ConfigDir
	kubeconfig := c + "/controller-manager.kubeconfig"
	return []string{
		"kube-controller-manager", "--bind-address=127.0.0.1", "--profiling=false",
		// One of each: a lease left by a power cut is nothing to wait for.
		"--leader-elect=false",
		"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
		"--client-ca-file=" + c + "/ca.crt", "--requestheader-client-ca-file=" + c + "/front-proxy-ca.crt",
		"--cluster-signing-cert-file=" + c + "/ca.crt", "--cluster-signing-key-file=" + c + "/ca.key",
		"--root-ca-file=" + c + "/ca.crt",
		"--service-account-private-key-file=" + c + "/sa.key", "--use-service-account-credentials=true",
		"--allocate-node-cidrs=true", "--node-cidr-mask-size=24",
		"--cluster-cidr=" + n.Cluster.PodCIDR().String(),
		"--service-cluster-ip-range=" + n.Cluster.ServiceCIDR().String(),
	}
}

func (n Node) kubeletArgs() []string {
	labels := []string{
		"topology.kubernetes.io/region=" + n.Cluster.Region(),
		"topology.kubernetes.io/zone=" + n.Cluster.Zone(),
	}
	return []string{
		"kubelet", "--config=" + ConfigDir + "/kubelet.json", "--kubeconfig=" + ConfigDir + "/kubelet.kubeconfig",
		"--hostname-override=" + n.Cluster.NodeName(), "--node-ip=" + n.Cluster.NodeIP().String(),
		"--root-dir=/var/lib/kubelet", "--node-labels=" + strings.Join(labels, ","),
	}
}
