package peers

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"

	"github.com/isthmus-mesh/isthmus/test/rig/meter"
	"github.com/isthmus-mesh/isthmus/test/rig/topo"
)

// The ports of isthmus-proxy that are asked from outside.
const (
	portStatus = 15020
	portReady  = 15021
)

// StartIsthmus starts isthmus-proxy as the proxy of a pod, with the files and
// variables that an injected pod gives it, and waits until it is ready. binary is
// one that Install has put in place.
func StartIsthmus(ctx context.Context, binary string, m *Mesh) (*Proxy, error) {
	dir := filepath.Join(m.Dir, "isthmus-"+m.Node.Name)
	if err := makeDir(dir); err != nil {
		return nil, err
	}

	token, root, labels := filepath.Join(dir, "token"), filepath.Join(dir, "root-cert.pem"), filepath.Join(dir, "labels")
	var lines []byte
	for k, v := range m.Labels {
		lines = fmt.Appendf(lines, "%s=%q\n", k, v)
	}
	for file, data := range map[string][]byte{token: []byte(m.Token), root: m.RootPEM, labels: lines} {
		if err := writeFile(file, data); err != nil {
			return nil, err
		}
	}

	threads := m.Concurrency
	if threads == 0 {
		threads = Threads
	}
	proxyConfig, err := json.Marshal(map[string]any{"discoveryAddress": m.DiscoveryTLS, "concurrency": threads})
	if err != nil {
		return nil, err
	}

	cmd := exec.Command(binary, m.kind(), "--token-file", token, "--root-file", root, "--labels-file", labels,
		"--state-dir", dir, "--log-level", "warn",
		"--discovery-server-name", m.ServerName)
	cmd.Env = []string{
		"POD_NAME=" + m.Pod, "POD_NAMESPACE=" + m.Namespace, "INSTANCE_IP=" + m.Node.Addr.String(),
		"SERVICE_ACCOUNT=" + m.Account, "TRUST_DOMAIN=cluster.local", "PROXY_CONFIG=" + string(proxyConfig),
		"ISTIO_META_CLUSTER_ID=" + m.Cluster, "ISTIO_META_NETWORK=" + m.Network,
		"ISTIO_META_WORKLOAD_NAME=" + m.Pod, "ISTIO_META_INTERCEPTION_MODE=REDIRECT",
	}
	if m.ResolvConf != "" {
		cmd.Args = append(cmd.Args, "--resolv-conf", m.ResolvConf)
		cmd.Env = append(cmd.Env, "ISTIO_META_DNS_CAPTURE=true")
	}

	p, err := start(m.Node, "isthmus-proxy", m.Dir, cmd)
	if err != nil {
		return nil, err
	}
	return p, p.wait(func() error {
		_, err := meter.Get(ctx, m.Node.Dial, fmt.Sprintf("http://127.0.0.1:%d/healthz/ready", portReady))
		return err
	})
}

// Redirect sends the node's TCP traffic through the proxy, as the init
// container of an injected pod does. Both mesh proxies understand it. With a
// resolvConf, queries to the name servers in it are led to the proxy too, which only
// isthmus-proxy understands.
func Redirect(binary string, node *topo.Node, resolvConf string) error {
	args := []string{"redirect", "--proxy-port", "15001", "--inbound-port", "15006", "--proxy-uid", fmt.Sprint(ProxyUID)}
	if resolvConf != "" {
		args = append(args, "--dns", "--resolv-conf", resolvConf)
	}
	return node.Run(exec.Command(binary, args...))
}

// Allocations is the number of objects that a running isthmus-proxy has
// allocated so far.
func (p *Proxy) Allocations(ctx context.Context) (float64, error) {
	page, err := meter.Get(ctx, p.Node.Dial, fmt.Sprintf("http://127.0.0.1:%d/stats/prometheus", portStatus))
	if err != nil {
		return 0, err
	}
	return meter.Counter(page, "go_memstats_mallocs_total")
}
