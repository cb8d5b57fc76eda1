package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/internal/portforward"
	"github.com/isthmus-mesh/isthmus/kube/clusters"
)

// monitoringPort is where istiod serves its debug pages to who is in the pod.
const monitoringPort = 15014

// clusterSeen is how a cluster fares for one replica of istiod.
type clusterSeen struct {
	Istiod string `json:"istiod"`
	clusters.State
}

func newRemoteClustersCommand(f *kubeFlags) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "remote-clusters",
		Short: "Show how the clusters fare that a control plane reads",
		Long: `Asks every replica of istiod, by a port-forward to its pod, how the clusters fare
that it reads: its own, and those that Secrets with the label istio/multiCluster=true
name. What is wrong with one is said below the table.

  synced    everything was read, and changes are followed
  syncing   the API server answers, and not everything was read yet
  stale     the API server does not answer; what was last read is in force
  refused   the Secret cannot be used, or the API server does not take its credentials

The command fails when a replica cannot be asked.`,
		Example: `  isthmus remote-clusters --context=cluster1
  isthmus remote-clusters -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "" && output != "json" && output != "yaml" {
				return fmt.Errorf("output format %q: json and yaml are possible", output)
			}
			seen, err := askReplicas(cmd.Context(), f)
			if output != "" {
				return errors.Join(printData(cmd.OutOrStdout(), output, seen), err)
			}
			return errors.Join(printClusters(cmd.OutOrStdout(), seen, time.Now()), err)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "json or yaml; a table for people when empty")
	return cmd
}

// askReplicas asks all replicas of istiod. What those said that could be asked
// comes with the error of the others.
func askReplicas(ctx context.Context, f *kubeFlags) ([]clusterSeen, error) {
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
	pods, err := runningIstiods(ctx, client, f.istioNamespace)
	if err != nil {
		return nil, err
	}

	seen := []clusterSeen{}
	var failed []error
	for _, pod := range pods {
		err := portforward.To(ctx, client, cfg, f.istioNamespace, pod, monitoringPort, func(addr string) error {
			states, err := fetchStates(ctx, addr)
			for _, s := range states {
				seen = append(seen, clusterSeen{pod, s})
			}
			return err
		})
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", pod, err))
		}
	}
	return seen, errors.Join(failed...)
}

// runningIstiods are the names of the replicas' pods.
func runningIstiods(ctx context.Context, client kubernetes.Interface, namespace string) ([]string, error) {
	list, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=istiod"})
	if err != nil {
		return nil, fmt.Errorf("list control planes: %w", err)
	}
	var out []string
	for _, p := range list.Items {
		if p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil {
			out = append(out, p.Name)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no istiod runs in namespace %s; --istioNamespace names another, --context another cluster", namespace)
	}
	slices.Sort(out)
	return out, nil
}

// fetchStates reads the page at which istiod tells how its clusters fare.
func fetchStates(ctx context.Context, addr string) ([]clusters.State, error) {
	var out []clusters.State
	if err := fetchPage(ctx, addr, "/debug/clusterz", &out); err != nil {
		return nil, fmt.Errorf("istiod's page of clusters (older versions have none): %w", err)
	}
	return out, nil
}

// printClusters prints a table, and below it what is wrong.
func printClusters(out io.Writer, seen []clusterSeen, now time.Time) error {
	if len(seen) == 0 {
		return nil
	}
	table := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
	fmt.Fprintln(table, "NAME\tSECRET\tSTATUS\tISTIOD\tTOKEN ENDS\tSERVICES\tENDPOINTS\tGATEWAYS")
	for _, s := range seen {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\n", cmp.Or(string(s.Cluster), "-"), cmp.Or(s.Secret, "-"),
			statusText(s.State, now), s.Istiod, tokenText(s.TokenEnds, now), s.Services, s.Endpoints, s.Gateways)
	}
	if err := table.Flush(); err != nil {
		return err
	}

	first := true
	for _, s := range seen {
		if s.Reason == "" {
			continue
		}
		if first {
			fmt.Fprintln(out)
			first = false
		}
		fmt.Fprintf(out, "! %s (%s): %s\n", cmp.Or(string(s.Cluster), s.Secret), s.Istiod, s.Reason)
	}
	return nil
}

func statusText(s clusters.State, now time.Time) string {
	if s.Status != clusters.Stale || s.Since.IsZero() {
		return string(s.Status)
	}
	return fmt.Sprintf("stale for %s", duration.HumanDuration(now.Sub(s.Since)))
}

func tokenText(ends, now time.Time) string {
	switch {
	case ends.IsZero():
		return "-"
	case now.After(ends):
		return "ended " + duration.HumanDuration(now.Sub(ends)) + " ago"
	}
	return "in " + duration.HumanDuration(ends.Sub(now))
}
