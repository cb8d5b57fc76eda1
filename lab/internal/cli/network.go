package cli

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/lab/internal/agent"
	"github.com/isthmus-mesh/isthmus/lab/internal/bringup"
	"github.com/isthmus-mesh/isthmus/lab/internal/fabric"
	"github.com/isthmus-mesh/isthmus/lab/internal/plan"
)

func (a *app) partitionCommand() *cobra.Command {
	var mode string
	cmd := &cobra.Command{
		Use:   "partition CLUSTER CLUSTER",
		Short: "Part two clusters, both ways, until `lab heal`",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, _, err := a.load()
			if err != nil {
				return err
			}
			if err := agent.NewClient(p).Partition(cmd.Context(), args[0], args[1], fabric.Mode(mode)); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s and %s do not reach each other (%s)\n", args[0], args[1], mode)
			return nil
		},
	}

	cmd.Flags().StringVar(&mode, "mode", string(fabric.Drop), `"drop" loses packets in silence, "reject" refuses them at once`)
	return cmd
}

func (a *app) healCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "heal",
		Short: "End all partitions",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, _, err := a.load()
			if err != nil {
				return err
			}
			if err := agent.NewClient(p).Heal(cmd.Context()); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "all clusters reach each other")
			return nil
		},
	}
}

func (a *app) exposeCommand() *cobra.Command {
	var port int
	cmd := &cobra.Command{
		Use:   "expose CLUSTER IP:PORT | NAMESPACE/SERVICE[:PORT]",
		Short: "Open an address of a cluster's network on this machine's loopback",
		Long: `Open an address of a cluster's network on this machine's loopback, and print
HOST:PORT. The address is reached as from the cluster's node: a pod's, a
cluster IP, or a load balancer's. A Service stands for its cluster IP, and for
its first port if none is given.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, _, c, err := a.loadCluster(args[0])
			if err != nil {
				return err
			}

			addr, err := resolve(cmd.Context(), &bringup.Lab{Paths: p}, c, args[1])
			if err != nil {
				return err
			}

			got, err := agent.NewClient(p).Expose(cmd.Context(), agent.Exposure{Cluster: c.Name(), Address: addr, Port: port})
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "127.0.0.1:%d\n", got.Port)
			return nil
		},
	}

	cmd.Flags().IntVar(&port, "port", 0, "port on the loopback (default any free one)")
	return cmd
}

// resolve turns what the user names into an address and a port.
func resolve(ctx context.Context, l *bringup.Lab, c plan.Cluster, target string) (string, error) {
	if ap, err := netip.ParseAddrPort(target); err == nil {
		return ap.String(), nil
	}

	namespace, rest, found := strings.Cut(strings.TrimPrefix(target, "svc/"), "/")
	if !found {
		return "", fmt.Errorf("%q is neither IP:PORT nor NAMESPACE/SERVICE", target)
	}

	name, portText, withPort := strings.Cut(rest, ":")
	var svc struct {
		Spec struct {
			ClusterIP string `json:"clusterIP"`
			Ports     []struct {
				Name string `json:"name"`
				Port int    `json:"port"`
			} `json:"ports"`
		} `json:"spec"`
	}

	client, err := l.API(c)
	if err != nil {
		return "", err
	}
	defer client.Close()

	if err := client.Get(ctx, fmt.Sprintf("/api/v1/namespaces/%s/services/%s", namespace, name), &svc); err != nil {
		return "", fmt.Errorf("find service %s/%s in %s: %w", namespace, name, c.Name(), err)
	}

	ip, err := netip.ParseAddr(svc.Spec.ClusterIP)
	if err != nil {
		return "", fmt.Errorf("service %s/%s has no cluster IP: name the IP of a pod", namespace, name)
	}

	for _, p := range svc.Spec.Ports {
		if !withPort || portText == p.Name || portText == strconv.Itoa(p.Port) {
			return netip.AddrPortFrom(ip, uint16(p.Port)).String(), nil
		}
	}
	return "", fmt.Errorf("service %s/%s has no port %q", namespace, name, portText)
}
