package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/internal/portforward"
)

// adminPort is where a proxy shows what it does to who is in the pod.
const adminPort = 15000

// endpointSeen is an endpoint as a proxy shows it at /clusters.
type endpointSeen struct {
	Address  netip.AddrPort
	Hostname string `json:",omitempty"`
	Workload struct{ Name, Namespace, App, Version, Cluster string }
	Active   int64
	Ejected  bool
	// EjectedUntil is zero where the proxy does not say it.
	EjectedUntil          time.Time `json:",omitzero"`
	Doubted               bool      `json:",omitempty"`
	Unhealthy             bool      `json:",omitempty"`
	Priority              uint32
	Region, Zone, SubZone string
	Weight                uint32
	Gateway               bool   `json:",omitempty"`
	Network               string `json:",omitempty"`
	Share                 float64
}

// clusterOfProxy is what a proxy shows of one port of a service.
type clusterOfProxy struct {
	Name      string
	Endpoints []endpointSeen
}

// portSeen is what a pod's proxy does with the calls to one port of a host.
type portSeen struct {
	Host      string         `json:"host"`
	Port      uint16         `json:"port"`
	Subset    string         `json:"subset,omitempty"`
	Endpoints []placedThere  `json:"endpoints"`
	From      clientPosition `json:"from"`
	// SetBy are the settings that have a say in the order; where there is none, near
	// endpoints come first, and those that fail are ejected.
	SetBy []string `json:"setBy,omitempty"`
}

// placedThere is an endpoint with what can be said of it from where the client is.
type placedThere struct {
	Priority uint32  `json:"priority"`
	Share    float64 `json:"share"`
	Address  string  `json:"address"`
	Workload string  `json:"workload,omitempty"`
	Cluster  string  `json:"cluster,omitempty"`
	Region   string  `json:"region,omitempty"`
	Zone     string  `json:"zone,omitempty"`
	SubZone  string  `json:"subzone,omitempty"`
	Gateway  bool    `json:"gateway,omitempty"`
	// Network is the one that a gateway leads to.
	Network      string    `json:"network,omitempty"`
	Weight       uint32    `json:"weight"`
	Health       string    `json:"health"`
	EjectedUntil time.Time `json:"ejectedUntil,omitzero"`
	Active       int64     `json:"active"`
	// Place is how far it is from the client.
	Place string `json:"place"`
}

// clientPosition is where a pod stands.
type clientPosition struct {
	Pod       string `json:"pod"`
	Namespace string `json:"namespace"`
	Cluster   string `json:"cluster,omitempty"`
	Region    string `json:"region,omitempty"`
	Zone      string `json:"zone,omitempty"`
	SubZone   string `json:"subzone,omitempty"`
}

func newLocalityCommand(f *kubeFlags) *cobra.Command {
	var from, output string
	cmd := &cobra.Command{
		Use:   "locality SERVICE[.NAMESPACE] --from POD[.NAMESPACE]",
		Short: "Show which endpoints of a service a pod uses now, and in which order",
		Long: `Asks the proxy of a pod, by a port-forward, which endpoints it has of a service: the
priority of each, what part of the calls it gets now, whether it is left out, and how
far it is from the pod; and which settings have a say in that. Calls go to the next priority when too few endpoints of one
are healthy: below 72 %, in part (overprovisioning factor 1.4).

SERVICE is a Service, of the pod's namespace where none is given, or any host, such as
httpbin.bar.global.

  healthy      it is used
  suspect      it has failed a moment ago: calls go elsewhere until one has found out
  ejected      it has failed, and is left out for a while
  unhealthy    discovery says so
  "yet used"   nothing better is left

NETWORK is that of the endpoints for which a gateway stands; what the pod reaches by its
own address has none there.`,
		Example: `  isthmus x locality web.shop --from sleep-7c5f9.shop
  isthmus x locality httpbin.bar.global --from sleep-7c5f9.foo -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "" && output != "json" && output != "yaml" {
				return fmt.Errorf("output format %q: json and yaml are possible", output)
			}
			if from == "" {
				return errors.New("whose view? Name a pod that calls the service: --from POD[.NAMESPACE]")
			}
			ports, err := askLocality(cmd.Context(), f, args[0], from)
			if err != nil {
				return err
			}
			if output != "" {
				return printData(cmd.OutOrStdout(), output, ports)
			}
			return printLocality(cmd.OutOrStdout(), ports, time.Now())
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "the pod whose view is wanted: POD[.NAMESPACE]")
	cmd.Flags().StringVarP(&output, "output", "o", "", "json or yaml; a table for people when empty")
	return cmd
}

// askLocality finds out where a pod stands and asks its proxy about a service.
func askLocality(ctx context.Context, f *kubeFlags, service, from string) ([]portSeen, error) {
	cfg, err := f.restConfig()
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := withTimeout(ctx)
	defer cancel()

	name, namespace, ok := strings.Cut(from, ".")
	if !ok {
		namespace = f.namespace()
	}
	position, err := positionOf(ctx, client, namespace, name)
	if err != nil {
		return nil, err
	}

	var seen []clusterOfProxy
	err = portforward.To(ctx, client, cfg, namespace, name, adminPort, func(addr string) (err error) {
		seen, err = fetchClusters(ctx, addr)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ask the proxy of pod %s/%s: %w", namespace, name, err)
	}

	ports := portsOf(seen, service, position)
	if len(ports) == 0 {
		return nil, fmt.Errorf("the proxy of pod %s/%s knows no service %s: is there one, and is it visible there (exportTo)? Name it with its namespace, or by its whole host name", namespace, name, service)
	}
	given := readSettings(ctx, cfg, client, f.istioNamespace, ports)
	for i := range ports {
		ports[i].SetBy = given.of(ports[i].Host, namespace)
	}
	return ports, nil
}

// positionOf finds out where a pod stands, as discovery does: by its node's labels.
func positionOf(ctx context.Context, client kubernetes.Interface, namespace, name string) (clientPosition, error) {
	out := clientPosition{Pod: name, Namespace: namespace}
	pod, err := client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return out, fmt.Errorf("there is no pod %s in namespace %s: name it as kubectl get pods does, with its namespace: --from POD.NAMESPACE", name, namespace)
	}
	if err != nil {
		return out, err
	}

	proxy := proxyContainer(pod)
	if proxy == nil {
		return out, fmt.Errorf("pod %s/%s has no proxy of the mesh: inject its namespace, and make the pod anew", namespace, name)
	}
	for _, e := range proxy.Env {
		if e.Name == "ISTIO_META_CLUSTER_ID" {
			out.Cluster = e.Value
		}
	}

	node, err := client.CoreV1().Nodes().Get(ctx, pod.Spec.NodeName, metav1.GetOptions{})
	if err != nil {
		// Who may look into pods may not be let look at nodes: the table says
		// less then.
		return out, nil
	}
	out.Region, out.Zone = node.Labels[corev1.LabelTopologyRegion], node.Labels[corev1.LabelTopologyZone]
	out.SubZone = node.Labels["topology.istio.io/subzone"]
	return out, nil
}

// fetchClusters reads the page at which a proxy shows its endpoints.
func fetchClusters(ctx context.Context, addr string) ([]clusterOfProxy, error) {
	var out []clusterOfProxy
	if err := fetchPage(ctx, addr, "/clusters", &out); err != nil {
		return nil, fmt.Errorf("the proxy's page /clusters (of isthmus, and of this version?): %w", err)
	}
	return out, nil
}

// portsOf are the ports of a service among the clusters of a proxy.
func portsOf(seen []clusterOfProxy, service string, from clientPosition) []portSeen {
	var out []portSeen
	for _, c := range seen {
		// outbound|PORT|SUBSET|HOST
		parts := strings.Split(c.Name, "|")
		if len(parts) != 4 || parts[0] != "outbound" || !names(service, parts[3], from.Namespace) {
			continue
		}
		number, err := strconv.ParseUint(parts[1], 10, 16)
		if err != nil {
			continue
		}

		p := portSeen{Host: parts[3], Port: uint16(number), Subset: parts[2], From: from, Endpoints: []placedThere{}}
		for _, e := range c.Endpoints {
			p.Endpoints = append(p.Endpoints, e.placed(from))
		}
		slices.SortStableFunc(p.Endpoints, func(a, b placedThere) int { return cmp.Compare(a.Priority, b.Priority) })
		out = append(out, p)
	}

	slices.SortFunc(out, func(a, b portSeen) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Subset, b.Subset))
	})
	return out
}

// names tells whether people mean a host by a name, in a namespace.
func names(service, host, namespace string) bool {
	return host == service || strings.HasPrefix(host, service+".svc.") || strings.HasPrefix(host, service+"."+namespace+".svc.")
}
