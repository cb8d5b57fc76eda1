package joincheck

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/install/apply"
	"github.com/isthmus-mesh/isthmus/install/remotesecret"
)

const (
	labelNetwork = "topology.istio.io/network"
	// labelGatewayPort names another port of a gateway than defaultGatewayPort.
	labelGatewayPort   = "networking.istio.io/gatewayPort"
	defaultGatewayPort = 15443
	// lookTime is for one question to an API server, tryTime for one connection.
	lookTime = 10 * time.Second
	tryTime  = 3 * time.Second
)

// looker gathers the facts of one cluster.
type looker struct {
	Facts
	cfg       *rest.Config
	client    kubernetes.Interface
	namespace string
}

// Look gathers the facts of a cluster. What cannot be read is told in them.
func Look(ctx context.Context, name string, cfg *rest.Config, namespace string) Facts {
	cfg = rest.CopyConfig(cfg)
	cfg.Timeout, cfg.WarningHandlerWithContext = lookTime, rest.NoWarnings{}
	l := &looker{Facts: Facts{Context: name}, cfg: cfg, namespace: namespace}
	var err error
	if l.client, err = kubernetes.NewForConfig(cfg); err == nil {
		err = l.reach(ctx)
	}
	if err != nil {
		l.Unreachable = fmt.Sprintf("%s does not answer, asked from here: %v", cfg.Host, err)
		return l.Facts
	}

	for _, q := range l.questions() {
		if err := q.look(ctx); err != nil {
			l.Unseen = append(l.Unseen, fmt.Sprintf("%s: %v", q.about, err))
		}
	}
	return l.Facts
}

// question is one thing that a cluster is asked about.
type question struct {
	about string
	look  func(context.Context) error
}

// questions are in the order in which they are asked.
func (l *looker) questions() []question {
	return []question{
		{"root certificates", l.roots},
		// Before the network: the label of the namespace is to have the last word.
		{"installation", l.installation},
		{"network", l.network},
		{"nodes", l.nodes},
		{"gateways", l.gateways},
		{"remote secrets", l.secrets},
	}
}

// reach asks for the version, and reads the clock off the answer (RFC 9110,
// section 6.6.1).
func (l *looker) reach(ctx context.Context) error {
	info, err := l.client.Discovery().ServerVersion()
	if err != nil {
		return err
	}
	l.Kubernetes = info.GitVersion
	if v, err := version.ParseGeneric(info.GitVersion); err == nil {
		l.Kubernetes = "v" + v.String()
	}

	client, err := rest.HTTPClientFor(l.cfg)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.cfg.Host+"/version", nil)
	if err != nil {
		return err
	}
	asked := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		between := asked.Add(time.Since(asked) / 2)
		l.Skew = date.Sub(between.Truncate(time.Second))
	}
	return nil
}

// roots reads the mesh's: the user's, or those that istiod has published.
func (l *looker) roots(ctx context.Context) error {
	l.Source = "Secret cacerts"
	s, err := l.client.CoreV1().Secrets(l.namespace).Get(ctx, "cacerts", metav1.GetOptions{})
	if err == nil {
		l.Roots = fingerprints(s.Data["root-cert.pem"])
		return nil
	}
	l.Source = "ConfigMap istio-ca-root-cert"
	cm, err := l.client.CoreV1().ConfigMaps(l.namespace).Get(ctx, "istio-ca-root-cert", metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err == nil {
		l.Roots = fingerprints([]byte(cm.Data["root-cert.pem"]))
	}
	return err
}

// fingerprints are those of PEM certificates, sorted.
func fingerprints(data []byte) []string {
	var out []string
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		sum := sha256.Sum256(block.Bytes)
		out = append(out, hex.EncodeToString(sum[:]))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// installation reads how the cluster was installed.
func (l *looker) installation(ctx context.Context) error {
	list, err := l.client.CoreV1().ConfigMaps(l.namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=istiod"})
	if err != nil {
		return err
	}
	for _, cm := range list.Items {
		var v struct {
			Global struct {
				Network            string `json:"network"`
				RemotePilotAddress string `json:"remotePilotAddress"`
				MultiCluster       struct {
					ClusterName string `json:"clusterName"`
				} `json:"multiCluster"`
			} `json:"global"`
		}
		if text := cm.Data["values"]; text != "" && yaml.Unmarshal([]byte(text), &v) == nil {
			l.Name, l.Network, l.Steered = v.Global.MultiCluster.ClusterName, v.Global.Network, v.Global.RemotePilotAddress != ""
		}
		if text := cm.Data["mesh"]; text != "" {
			if mesh, _, err := api.LoadMeshConfig(text); err == nil {
				l.TrustDomain = mesh.TrustDomain
			}
			if nets, _, err := api.LoadMeshNetworks(cm.Data["meshNetworks"]); err == nil {
				l.Networks = nets
			}
		}
	}

	client, err := apply.NewClient(l.cfg)
	if err != nil {
		return err
	}
	invs, err := client.Inventories(ctx)
	for _, inv := range invs {
		if inv.Addition == "" && inv.Namespace == l.namespace {
			l.Istiod = inv.Version
		}
	}
	return err
}

// network reads what the label of the control plane's namespace says, which
// counts for more than the installation.
func (l *looker) network(ctx context.Context) error {
	ns, err := l.client.CoreV1().Namespaces().Get(ctx, l.namespace, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err == nil && ns.Labels[labelNetwork] != "" {
		l.Network = ns.Labels[labelNetwork]
	}
	return err
}

func (l *looker) nodes(ctx context.Context) error {
	list, err := l.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, n := range list.Items {
		for _, cidr := range n.Spec.PodCIDRs {
			if p, err := netip.ParsePrefix(cidr); err == nil && !slices.Contains(l.Pods, p) {
				l.Pods = append(l.Pods, p)
			}
		}
	}
	return nil
}

// gateways reads the Services that are labelled as a network's gateways, and tries
// their addresses.
func (l *looker) gateways(ctx context.Context) error {
	list, err := l.client.CoreV1().Services("").List(ctx, metav1.ListOptions{LabelSelector: labelNetwork})
	if err != nil {
		return err
	}
	for _, svc := range list.Items {
		g := Gateway{Service: svc.Namespace + "/" + svc.Name, Network: svc.Labels[labelNetwork], Addresses: addresses(&svc)}
		for _, at := range g.Addresses {
			dialer := net.Dialer{Timeout: tryTime}
			conn, err := dialer.DialContext(ctx, "tcp", at)
			if err != nil {
				g.Silent = append(g.Silent, at)
				continue
			}
			conn.Close()
		}
		l.Gateways = append(l.Gateways, g)
	}
	return nil
}

// addresses are where a gateway's Service is reached from outside. Of a NodePort
// Service, that is left to the control plane to find out.
func addresses(svc *corev1.Service) []string {
	port := defaultGatewayPort
	if n, err := strconv.Atoi(svc.Labels[labelGatewayPort]); err == nil {
		port = n
	}
	var out []string
	add := func(host string) {
		if host != "" {
			out = append(out, net.JoinHostPort(host, strconv.Itoa(port)))
		}
	}
	for _, in := range svc.Status.LoadBalancer.Ingress {
		add(in.IP)
		add(in.Hostname)
	}
	for _, ip := range svc.Spec.ExternalIPs {
		add(ip)
	}
	return out
}

// secrets reads those by which other clusters are read, and tries each from here.
func (l *looker) secrets(ctx context.Context) error {
	list, err := l.client.CoreV1().Secrets(l.namespace).List(ctx, metav1.ListOptions{LabelSelector: remotesecret.Label + "=true"})
	if err != nil {
		return err
	}
	for _, s := range list.Items {
		for _, cluster := range slices.Sorted(maps.Keys(s.Data)) {
			out := Secret{Name: s.Name, Cluster: cluster}
			out.Server, err = try(ctx, s.Data[cluster])
			if err != nil {
				out.Trouble = err.Error()
			}
			l.Secrets = append(l.Secrets, out)
		}
	}
	return nil
}

// try asks the API server that a kubeconfig leads to whether it takes the
// credentials. Nothing is run that the kubeconfig names.
func try(ctx context.Context, kubeconfig []byte) (server string, err error) {
	raw, err := clientcmd.Load(kubeconfig)
	if err != nil {
		return "", fmt.Errorf("it is no kubeconfig: %w", err)
	}
	for _, cluster := range raw.Clusters {
		if cluster.CertificateAuthority != "" {
			return "", errors.New("it names a file, and was not tried")
		}
	}
	for _, user := range raw.AuthInfos {
		if user.Exec != nil || user.AuthProvider != nil || user.TokenFile != "" || user.ClientKey != "" || user.ClientCertificate != "" {
			return "", errors.New("it names a program or a file, and was not tried")
		}
	}
	cfg, err := clientcmd.NewDefaultClientConfig(*raw, &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return "", err
	}
	cfg.Timeout = tryTime
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return cfg.Host, err
	}
	_, err = client.CoreV1().Nodes().List(ctx, metav1.ListOptions{Limit: 1})
	return cfg.Host, err
}
