package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/lab/internal/agent"
	"github.com/isthmus-mesh/isthmus/lab/internal/bringup"
	"github.com/isthmus-mesh/isthmus/lab/internal/plan"
)

// status is the answer of `lab status -o json`.
type status struct {
	Name       string            `json:"name"`
	Network    plan.Network      `json:"network"`
	Kubernetes string            `json:"kubernetes"`
	Kubeconfig string            `json:"kubeconfig"`
	AgentUp    bool              `json:"agentUp"`
	Clusters   []clusterStatus   `json:"clusters"`
	Partitions []agent.Partition `json:"partitions"`
	Exposed    []agent.Exposure  `json:"exposed"`
}

type clusterStatus struct {
	Name string `json:"name"`
	// State is "ready", "not ready" or "off".
	State string `json:"state"`
	// Server is the API server's URL on the host, InternalServer that inside
	// the lab's networks, which pods of every cluster reach.
	Server         string `json:"server"`
	InternalServer string `json:"internalServer"`
	Node           string `json:"node"`
	NodeIP         string `json:"nodeIP"`
	PodCIDR        string `json:"podCIDR"`
	ServiceCIDR    string `json:"serviceCIDR"`
	Region         string `json:"region"`
	Zone           string `json:"zone"`
}

func (a *app) statusCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the lab's clusters, partitions and open ports",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, lab, err := a.load()
			if err != nil {
				return err
			}

			s := a.gather(cmd.Context(), p, lab)
			switch output {
			case "json":
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(s)
			case "":
				return s.print(cmd.OutOrStdout())
			}
			return fmt.Errorf("output format %q: only json is known", output)
		},
	}

	cmd.Flags().StringVarP(&output, "output", "o", "", `output format: "json", or a table if not given`)
	return cmd
}

func (a *app) gather(ctx context.Context, p plan.Paths, lab *plan.Lab) status {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	s := status{
		Name: lab.Name, Network: lab.Network, Kubernetes: lab.Kubernetes, Kubeconfig: p.Kubeconfig(),
		Partitions: []agent.Partition{}, Exposed: []agent.Exposure{},
	}
	state, err := agent.NewClient(p).State(ctx)
	if err == nil {
		s.AgentUp, s.Partitions, s.Exposed = true, state.Partitions, state.Exposed
	}

	for _, c := range lab.Clusters {
		s.Clusters = append(s.Clusters, clusterStatus{
			Name:           c.Name(),
			State:          clusterState(ctx, &bringup.Lab{Paths: p}, c, slices.Contains(state.Running, c.Name())),
			Server:         fmt.Sprintf("https://127.0.0.1:%d", c.HostPort),
			InternalServer: "https://" + c.APIAddr().String(),
			Node:           c.NodeName(),
			NodeIP:         c.NodeIP().String(),
			PodCIDR:        c.PodCIDR().String(),
			ServiceCIDR:    c.ServiceCIDR().String(),
			Region:         c.Region(),
			Zone:           c.Zone(),
		})
	}

	return s
}

func clusterState(ctx context.Context, l *bringup.Lab, c plan.Cluster, running bool) string {
	if !running {
		return "off"
	}

	client, err := l.API(c)
	if err != nil {
		return "not ready"
	}
	defer client.Close()

	if !bringup.NodeReady(ctx, client, c, time.Time{}) {
		return "not ready"
	}
	return "ready"
}

func (s status) print(out io.Writer) error {
	fmt.Fprintf(out, "lab %s, Kubernetes %s, network %s, kubeconfig %s\n", s.Name, s.Kubernetes, s.Network, s.Kubeconfig)
	if !s.AgentUp {
		fmt.Fprintln(out, "the lab's agent is not running: repair the lab with `lab up`")
	}

	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CLUSTER\tSTATE\tAPI SERVER\tINSIDE THE LAB\tPODS\tSERVICES\tREGION")
	for _, c := range s.Clusters {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", c.Name, c.State, c.Server, c.InternalServer, c.PodCIDR, c.ServiceCIDR, c.Region)
	}
	if err := w.Flush(); err != nil {
		return err
	}

	for _, p := range s.Partitions {
		fmt.Fprintf(out, "partition: %s and %s (%s)\n", p.A, p.B, p.Mode)
	}
	for _, e := range s.Exposed {
		fmt.Fprintf(out, "exposed: 127.0.0.1:%d is %s in %s\n", e.Port, e.Address, e.Cluster)
	}
	return nil
}

func (a *app) envCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "env",
		Short: "Print shell commands that point kubectl at the lab",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, _, err := a.load()
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "export KUBECONFIG=%s\nexport PATH=%s:\"$PATH\"\n", quote(p.Kubeconfig()), quote(p.Bin()))
			return nil
		},
	}
}
