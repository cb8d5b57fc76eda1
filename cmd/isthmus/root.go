package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/version"
)

// kubeFlags are the flags that say which cluster a command talks to.
type kubeFlags struct {
	kubeconfig     string
	context        string
	istioNamespace string
	ns             string
}

// newRootCommand builds the whole command tree. calledAs is the path the
// binary was started by: its base name appears in usage texts, so that people
// who call it istioctl read what they type.
func newRootCommand(calledAs string) *cobra.Command {
	name := "isthmus"
	if base := filepath.Base(calledAs); strings.TrimSuffix(base, ".exe") == "istioctl" {
		name = "istioctl"
	}
	f := &kubeFlags{}
	root := &cobra.Command{
		Use:           name,
		Short:         "Joins Kubernetes clusters into one service mesh",
		Long:          "Installs and steers the Isthmus service mesh. It speaks the Istio APIs, so\nthe manifests, tools and habits made for Istio keep working.",
		Version:       version.Version,
		SilenceUsage:  true,
		SilenceErrors: true,
		// Completion has a command of its own, with the spelling of the
		// other commands.
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	p := root.PersistentFlags()
	p.StringVarP(&f.kubeconfig, "kubeconfig", "c", "", "kubeconfig file (default: $KUBECONFIG, ~/.kube/config, or the pod's service account)")
	p.StringVar(&f.context, "context", "", "kubeconfig context to use (default: the current one)")
	p.StringVarP(&f.istioNamespace, "istioNamespace", "i", api.DefaultNamespace, "namespace of the control plane")
	p.StringVarP(&f.ns, "namespace", "n", "", "namespace the command works in (default: the context's)")

	root.AddCommand(
		newInstallCommand(f, "install"),
		newManifestCommand(f),
		newUpgradeCommand(f),
		newUninstallCommand(f),
		newVerifyInstallCommand(f),
		newOperatorCommand(f),
		newProfileCommand(),
		newCreateRemoteSecretCommand(f),
		newRemoteClustersCommand(f),
		newImageCommand(),
		newVersionCommand(f),
		newCompletionCommand(),
		newCollateralCommand(),
		newKubeInjectCommand(f),
		newValidateCommand(f),
		newDiscoveryCommand(f),
		newDNSCommand(f),
		newExperimentalCommand(f),
	)
	return root
}

// newExperimentalCommand groups commands whose flags may still change.
func newExperimentalCommand(f *kubeFlags) *cobra.Command {
	x := &cobra.Command{
		Use:     "x",
		Aliases: []string{"experimental", "exp"},
		Short:   "Commands whose flags may still change",
	}
	x.AddCommand(newXCACommand(), newXDNSCommand(f), newPrecheckCommand(f), newCreateRemoteSecretCommand(f), newLocalityCommand(f), newDrillCommand(f), newXAPICommand())
	return x
}

func (f *kubeFlags) clientConfig() clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.kubeconfig
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules,
		&clientcmd.ConfigOverrides{CurrentContext: f.context})
}

// restConfig returns the way to the cluster that the flags name: an explicit
// kubeconfig, else KUBECONFIG, else ~/.kube/config, else the service account
// of the pod that the command runs in.
func (f *kubeFlags) restConfig() (*rest.Config, error) {
	c, err := f.clientConfig().ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("no cluster to talk to: %w; name one with --kubeconfig and --context", err)
	}
	// The client's own limiter is off: the server's priority and fairness
	// limits a client that asks too much, and knows how much that is.
	c.QPS = -1
	c.UserAgent = "isthmus/" + version.Version
	return c, nil
}

// namespace returns the namespace that the flags or the kubeconfig's context
// name; "default" when neither does.
func (f *kubeFlags) namespace() string {
	if f.ns != "" {
		return f.ns
	}
	ns, _, err := f.clientConfig().Namespace()
	if err != nil || ns == "" {
		return "default"
	}
	return ns
}
