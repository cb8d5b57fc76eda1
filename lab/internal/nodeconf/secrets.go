package nodeconf

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"time"

	"github.com/isthmus-mesh/isthmus/lab/internal/pki"
)

// Admin is what a cluster's administrator needs, beside an address, to reach
// it; all PEM.
type Admin struct {
	CA   []byte
	Cert []byte
	Key  []byte
}

// Names of the administrator's files among those of Secrets.
const (
	CAFile        = "ca.crt"
	AdminCertFile = "admin.crt"
	AdminKeyFile  = "admin.key"
)

// Secrets makes the node's authorities, certificates, keys and kubeconfigs,
// by file name. They are made once in a cluster's life.
func (n Node) Secrets(now time.Time) (map[string][]byte, error) {
	ca, err := pki.NewAuthority(n.Cluster.Name()+"-ca", now)
	if err != nil {
		return nil, err
	}

	front, err := pki.NewAuthority(n.Cluster.Name()+"-front-proxy-ca", now)
	if err != nil {
		return nil, err
	}

	private, public, err := pki.NewSigningKey()
	if err != nil {
		return nil, err
	}

	files := map[string][]byte{
		"ca.crt":             ca.Cert,
		"ca.key":             ca.Key,
		"front-proxy-ca.crt": front.Cert,
		"sa.key":             private,
		"sa.pub":             public,
	}
	if err := issue(files, front, "front-proxy-client", pki.Leaf{CommonName: "front-proxy-client", Client: true}); err != nil {
		return nil, err
	}

	for name, leaf := range n.leaves() {
		if err := issue(files, ca, name, leaf); err != nil {
			return nil, err
		}
	}

	for _, user := range []string{"admin", "controller-manager", "scheduler", "kubelet", "kube-proxy"} {
		admin := Admin{CA: ca.Cert, Cert: files[user+".crt"], Key: files[user+".key"]}
		files[user+".kubeconfig"] = Kubeconfig([]Context{{
			Name: n.Cluster.Name(), Server: "https://" + n.Cluster.APIAddr().String(), Admin: admin,
		}})
	}
	return files, nil
}

// leaves are the certificates signed by the cluster's own authority.
func (n Node) leaves() map[string]pki.Leaf {
	node, c := n.Cluster.NodeName(), n.Cluster
	return map[string]pki.Leaf{
		"apiserver": {
			CommonName: "kube-apiserver",
			DNSNames:   []string{"localhost", node, "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
			IPs:        []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), c.NodeIP(), c.APIServiceIP()},
			Server:     true,
		},
		"kubelet": {
			CommonName: "system:node:" + node, Organizations: []string{"system:nodes"},
			DNSNames: []string{node}, IPs: []netip.Addr{c.NodeIP()},
			Server: true, Client: true,
		},
		"apiserver-kubelet-client": {CommonName: "kube-apiserver-kubelet-client", Organizations: []string{"system:masters"}, Client: true},
		"admin":                    {CommonName: "isthmus-lab-admin", Organizations: []string{"system:masters"}, Client: true},
		"controller-manager":       {CommonName: "system:kube-controller-manager", Client: true},
		"scheduler":                {CommonName: "system:kube-scheduler", Client: true},
		"kube-proxy":               {CommonName: "system:kube-proxy", Client: true},
	}
}

func issue(files map[string][]byte, ca *pki.Authority, name string, leaf pki.Leaf) error {
	pair, err := ca.Issue(leaf)
	if err != nil {
		return err
	}
	files[name+".crt"], files[name+".key"] = pair.Cert, pair.Key
	return nil
}

// Context is one entry of a kubeconfig.
type Context struct {
	Name   string
	Server string
	Admin  Admin
}

// Kubeconfig writes a kubeconfig; its first context is the current one.
func Kubeconfig(contexts []Context) []byte {
	var clusters, users, list string
	enc := base64.StdEncoding.EncodeToString
	for _, c := range contexts {
		clusters += fmt.Sprintf("- name: %s\n  cluster:\n    server: %s\n    certificate-authority-data: %s\n", c.Name, c.Server, enc(c.Admin.CA))
		users += fmt.Sprintf("- name: %s\n  user:\n    client-certificate-data: %s\n    client-key-data: %s\n", c.Name, enc(c.Admin.Cert), enc(c.Admin.Key))
		list += fmt.Sprintf("- name: %s\n  context:\n    cluster: %s\n    user: %s\n", c.Name, c.Name, c.Name)
	}
	return fmt.Appendf(nil, "apiVersion: v1\nkind: Config\ncurrent-context: %s\nclusters:\n%susers:\n%scontexts:\n%s",
		contexts[0].Name, clusters, users, list)
}
