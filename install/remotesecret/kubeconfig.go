package remotesecret

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"
)

// rootConfigMap holds, in every namespace, the certificate by which pods know
// their cluster's API server.
const rootConfigMap = "kube-root-ca.crt"

// checkServer refuses what is no URL of an API server.
func checkServer(server string) error {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("%q is not the URL of an API server such as https://192.0.2.1:6443", server)
	}
	return nil
}

// here tells whether an URL leads to the machine that it is used on.
func here(server string) bool {
	u, err := url.Parse(server)
	if err != nil {
		return false
	}
	if u.Hostname() == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return err == nil && (ip.IsLoopback() || ip.IsUnspecified())
}

// unreachable tells whether an error comes from the way to a server and not from
// the server.
func unreachable(err error) bool {
	var netError net.Error
	return errors.As(err, &netError) || errors.Is(err, context.DeadlineExceeded)
}

// kubeconfig is the file that the Secret holds: one cluster, one user, one
// context, all of the cluster's name.
func (m *maker) kubeconfig(ctx context.Context, user *clientcmdapi.AuthInfo) ([]byte, error) {
	server := m.Server
	if server == "" {
		server = m.config.Host
		if err := checkServer(server); err != nil {
			return nil, fmt.Errorf("the kubeconfig's server: %w; give the one that the other cluster is to use by --server", err)
		}
		if here(server) {
			m.Tell(fmt.Sprintf("the kubeconfig's server %s leads to this machine only: the control plane that is to read this cluster will not get there. Name one that it reaches by --server", server))
		}
	}

	cluster := clientcmdapi.NewCluster()
	cluster.Server, cluster.ProxyURL, cluster.TLSServerName = server, m.ProxyURL, m.config.ServerName
	var err error
	if cluster.CertificateAuthorityData, err = m.root(ctx); err != nil {
		return nil, err
	}

	config := clientcmdapi.NewConfig()
	config.Clusters[m.Name] = cluster
	config.AuthInfos[m.Name] = user
	config.Contexts[m.Name] = &clientcmdapi.Context{Cluster: m.Name, AuthInfo: m.Name}
	config.CurrentContext = m.Name
	text, err := clientcmd.Write(*config)
	if err != nil {
		return nil, fmt.Errorf("write the kubeconfig: %w", err)
	}
	return text, nil
}

// root is the certificate by which the API server is known: the kubeconfig's, or
// the cluster's own where that one does not look. It is empty where the
// kubeconfig trusts the authorities of this machine.
func (m *maker) root(ctx context.Context) ([]byte, error) {
	cfg := rest.CopyConfig(m.config)
	if err := rest.LoadTLSFiles(cfg); err != nil {
		return nil, fmt.Errorf("read the kubeconfig's certificates: %w", err)
	}
	if len(cfg.CAData) > 0 {
		return cfg.CAData, nil
	}
	if !cfg.Insecure {
		m.Tell("the kubeconfig has no certificate-authority: the control plane that is to read this cluster has to know the API server by a public authority")
		return nil, nil
	}

	cm, err := m.kube.CoreV1().ConfigMaps(m.Namespace).Get(ctx, rootConfigMap, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("the kubeconfig does not check the API server (insecure-skip-tls-verify), and a control plane has to: look for the cluster's own certificate: %w", err)
	}
	m.Tell("the kubeconfig does not check the API server (insecure-skip-tls-verify); the secret does, by the certificate in ConfigMap " + rootConfigMap)
	return []byte(cm.Data["ca.crt"]), nil
}

// ownName is what the istiod in the cluster calls it; "" when there is none, or
// it cannot be read.
func (m *maker) ownName(ctx context.Context) (string, error) {
	list, err := m.kube.CoreV1().ConfigMaps(m.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=istiod"})
	if err != nil {
		if unreachable(err) {
			return "", err
		}
		return "", nil // another user's right, and only for a hint
	}
	for _, cm := range list.Items {
		var v struct {
			Global struct {
				MultiCluster struct {
					ClusterName string `json:"clusterName"`
				} `json:"multiCluster"`
			} `json:"global"`
		}
		if text, ok := cm.Data["values"]; ok && yaml.Unmarshal([]byte(text), &v) == nil && v.Global.MultiCluster.ClusterName != "" {
			return v.Global.MultiCluster.ClusterName, nil
		}
	}
	return "", nil
}
