package main

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/inject"
)

// newKubeInjectCommand puts the sidecar into files, for clusters or pods that
// the injection webhook does not reach.
func newKubeInjectCommand(f *kubeFlags) *cobra.Command {
	k := &kubeInject{kube: f}
	cmd := &cobra.Command{
		Use:   "kube-inject",
		Short: "Put the sidecar into the pods of a file",
		Long: `Copies a file of Kubernetes objects and puts the sidecar into each pod and pod
template in it. Everything else, and what opts out, is copied as it is.

The settings are those that the cluster's injection webhook uses. With --hub and
--tag no cluster is asked.`,
		Example: `  isthmus kube-inject -f deployment.yaml | kubectl apply -f -
  isthmus kube-inject -f deployment.yaml --hub registry.example/mesh --tag v1.0.0 -o injected.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return k.run(cmd) },
	}
	cmd.Flags().StringVarP(&k.file, "filename", "f", "", "file to read, - for standard input")
	cmd.Flags().StringVarP(&k.output, "output", "o", "", "file to write (default: standard output)")
	cmd.Flags().StringVar(&k.hub, "hub", "", "image repository, to work without a cluster")
	cmd.Flags().StringVar(&k.tag, "tag", "", "image tag, to work without a cluster")
	cmd.Flags().BoolVar(&k.native, "native-sidecar", true, "without a cluster: use restartable init containers (Kubernetes 1.29 and later)")
	cmd.Flags().StringVarP(&k.revision, "revision", "r", "", "revision of the control plane")
	cobra.CheckErr(cmd.MarkFlagRequired("filename"))
	return cmd
}

type kubeInject struct {
	kube                             *kubeFlags
	file, output, hub, tag, revision string
	native                           bool
}

func (k *kubeInject) run(cmd *cobra.Command) error {
	settings, err := k.settings(cmd.Context())
	if err != nil {
		return err
	}

	in := cmd.InOrStdin()
	if k.file != "-" {
		file, err := os.Open(k.file)
		if err != nil {
			return err
		}
		defer file.Close()
		in = file
	}

	namespace := k.kube.ns
	if namespace == "" && k.hub == "" {
		namespace = k.kube.namespace()
	}
	if namespace == "" {
		namespace = "default"
	}

	var out bytes.Buffer
	outcomes, err := inject.Manifest(in, &out, namespace, settings)
	if err != nil {
		return fmt.Errorf("%s: %w", k.file, err)
	}
	for _, o := range outcomes {
		if !o.Injected {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s %s/%s is left as it is: %s\n", o.Kind, o.Namespace, o.Name, o.Reason)
		}
		for _, w := range o.Warnings {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s %s/%s: %s\n", o.Kind, o.Namespace, o.Name, w)
		}
	}

	if k.output != "" {
		return os.WriteFile(k.output, out.Bytes(), 0o644)
	}
	_, err = out.WriteTo(cmd.OutOrStdout())
	return err
}

// settings come from the flags, or from the cluster's ConfigMaps.
func (k *kubeInject) settings(ctx context.Context) (*inject.Settings, error) {
	if (k.hub == "") != (k.tag == "") {
		return nil, fmt.Errorf("--hub and --tag go together")
	}
	if k.hub != "" {
		text, err := yaml.Marshal(map[string]any{"global": map[string]any{"hub": k.hub, "tag": k.tag, "istioNamespace": k.kube.istioNamespace}})
		if err != nil {
			return nil, err
		}
		values, err := inject.ParseValues(text)
		if err != nil {
			return nil, err
		}
		return &inject.Settings{Values: values, Revision: k.revision, NativeSidecar: k.native}, nil
	}
	config, err := k.kube.restConfig()
	if err != nil {
		return nil, fmt.Errorf("%w, or give --hub and --tag", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client for the cluster: %w", err)
	}
	return k.liveSettings(ctx, client)
}

func (k *kubeInject) liveSettings(ctx context.Context, client kubernetes.Interface) (*inject.Settings, error) {
	suffix := ""
	if k.revision != "" && k.revision != api.DefaultRevision {
		suffix = "-" + k.revision
	}

	text, err := k.configMapKey(ctx, client, "istio-sidecar-injector"+suffix, "values")
	if err != nil {
		return nil, err
	}
	values, err := inject.ParseValues([]byte(text))
	if err != nil {
		return nil, err
	}

	text, err = k.configMapKey(ctx, client, "istio"+suffix, "mesh")
	if err != nil {
		return nil, err
	}
	// Read as the webhook reads it, which says in its log what it leaves out.
	mesh, _, err := api.LoadMeshConfig(text)
	if err != nil {
		return nil, err
	}

	server, err := client.Discovery().ServerVersion()
	if err != nil {
		return nil, fmt.Errorf("version of the cluster: %w", err)
	}
	native, err := inject.KnowsNativeSidecars(server)
	if err != nil {
		return nil, err
	}
	return &inject.Settings{Values: values, Mesh: mesh, Revision: k.revision, NativeSidecar: native}, nil
}

func (k *kubeInject) configMapKey(ctx context.Context, client kubernetes.Interface, name, key string) (string, error) {
	cm, err := client.CoreV1().ConfigMaps(k.kube.istioNamespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("settings of the injection webhook: %w; is the mesh installed in %s? Without a cluster, give --hub and --tag", err, k.kube.istioNamespace)
	}
	text, ok := cm.Data[key]
	if !ok {
		return "", fmt.Errorf("ConfigMap %s/%s has no key %q", k.kube.istioNamespace, name, key)
	}
	return text, nil
}
