package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/version"
)

// versionReport is what "version" says.
type versionReport struct {
	Client        string         `json:"clientVersion"`
	Go            string         `json:"goVersion"`
	ControlPlanes []versionCount `json:"meshVersion,omitempty"`
	DataPlanes    []versionCount `json:"dataPlaneVersion,omitempty"`
}

// versionCount is how many pods run a version.
type versionCount struct {
	Component string `json:"component"`
	Revision  string `json:"revision,omitempty"`
	Version   string `json:"version"`
	Count     int    `json:"count"`
}

func newVersionCommand(f *kubeFlags) *cobra.Command {
	var output string
	var remote, short bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the versions of this binary, of control planes and of proxies",
		Example: `  isthmus version
  isthmus version --remote=false
  isthmus version -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report := versionReport{Client: version.Version, Go: runtime.Version()}
			asked := cmd.Flags().Changed("remote")
			if remote {
				if err := report.addRemote(cmd.Context(), f); err != nil && asked {
					return err
				}
			}
			return report.print(cmd.OutOrStdout(), output, short)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "json or yaml; a table for people when empty")
	cmd.Flags().BoolVar(&remote, "remote", true, "also ask the cluster")
	cmd.Flags().BoolVarP(&short, "short", "s", false, "this binary's version alone, in one word")
	return cmd
}

// addRemote counts the versions that run in the cluster.
func (r *versionReport) addRemote(ctx context.Context, f *kubeFlags) error {
	cfg, err := f.restConfig()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	planes, err := client.CoreV1().Pods(f.istioNamespace).List(ctx, metav1.ListOptions{LabelSelector: "app=istiod"})
	if err != nil {
		return fmt.Errorf("list control planes: %w", err)
	}
	r.ControlPlanes = countVersions(planes.Items, "discovery")
	// Sidecars and gateways alike carry the label; who else does has no such
	// container.
	proxies, err := client.CoreV1().Pods("").List(ctx, metav1.ListOptions{LabelSelector: "service.istio.io/canonical-name"})
	if err != nil {
		return fmt.Errorf("list proxies: %w", err)
	}
	r.DataPlanes = countVersions(proxies.Items, "istio-proxy")
	return nil
}

// countVersions counts pods by the tag of a container's image.
func countVersions(pods []corev1.Pod, container string) []versionCount {
	counts := map[versionCount]int{}
	for _, p := range pods {
		for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
			if c.Name == container {
				counts[versionCount{Component: container, Revision: p.Labels[api.LabelRevision], Version: imageTag(c.Image)}]++
			}
		}
	}
	var out []versionCount
	for v, n := range counts {
		v.Count = n
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b versionCount) int {
		return strings.Compare(a.Revision+" "+a.Version, b.Revision+" "+b.Version)
	})
	return out
}

// imageTag returns the tag or digest of an image's name.
func imageTag(image string) string {
	if _, digest, ok := strings.Cut(image, "@"); ok {
		return digest
	}
	last := image[strings.LastIndex(image, "/")+1:]
	if _, tag, ok := strings.Cut(last, ":"); ok {
		return tag
	}
	return "latest"
}

func (r *versionReport) print(out io.Writer, format string, short bool) error {
	switch {
	case short:
		fmt.Fprintln(out, r.Client)
		return nil
	case format != "":
		return printData(out, format, r)
	}
	fmt.Fprintf(out, "client version: %s\n", r.Client)
	for _, v := range r.ControlPlanes {
		fmt.Fprintf(out, "control plane version: %s (%d pods, revision %s)\n", v.Version, v.Count, v.Revision)
	}
	for _, v := range r.DataPlanes {
		fmt.Fprintf(out, "data plane version: %s (%d proxies)\n", v.Version, v.Count)
	}
	return nil
}

// printData writes a value as JSON or YAML.
func printData(out io.Writer, format string, v any) error {
	switch format {
	case "json":
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	case "yaml":
		text, err := yaml.Marshal(v)
		if err != nil {
			return err
		}
		_, err = out.Write(text)
		return err
	}
	return fmt.Errorf("output format %q: json and yaml are possible", format)
}
