package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/charts"
	"github.com/isthmus-mesh/isthmus/install/remotesecret"
	"github.com/isthmus-mesh/isthmus/install/render"
)

// remoteSecretFlags are those of create-remote-secret, by the names that Istio
// gives them.
type remoteSecretFlags struct {
	options      remotesecret.Options
	kind         string
	auth         string
	plugin       string
	pluginConfig map[string]string
	account      bool
}

// newCreateRemoteSecretCommand prints the Secret by which one cluster's control
// plane reads another.
func newCreateRemoteSecretCommand(f *kubeFlags) *cobra.Command {
	r := &remoteSecretFlags{}
	cmd := &cobra.Command{
		Use:   "create-remote-secret",
		Short: "Print the Secret by which another cluster's control plane reads this cluster",
		Long: `Prints, for the cluster that --context names, the Secret by which the control plane
of another cluster reads its services, endpoints, pods, nodes and namespaces. It is
meant to be piped into that other cluster; everything but the Secret goes to the
standard error.

In the cluster that --context names, the service account is made if it is not there,
with the rights to read the above, to review tokens, and to ask for its own next
token. The token in the Secret has an end; the control plane that has it renews it.`,
		Example: `  # Let the control plane of cluster1 read cluster2
  isthmus create-remote-secret --context=cluster2 --name=cluster2 | kubectl apply -f - --context=cluster1

  # The kubeconfig's address of cluster2 does not lead there from cluster1
  isthmus create-remote-secret --context=cluster2 --name=cluster2 --server=https://192.0.2.1:6443 | kubectl apply -f - --context=cluster1`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return r.run(cmd, f) },
	}

	p, o := cmd.Flags(), &r.options
	p.StringVar(&o.Name, "name", "", "name of the cluster in the mesh, as values.global.multiCluster.clusterName has it there (default: that, else the UID of its namespace kube-system)")
	p.StringVar(&o.Server, "server", "", "URL by which the other cluster reaches this one's API server (default: the kubeconfig's)")
	p.StringVar(&o.ServiceAccount, "service-account", render.ReaderAccount, "whose token the Secret holds")
	p.BoolVar(&r.account, "create-service-account", true, "make the service account, its roles and bindings where they are missing")
	p.DurationVar(&o.Duration, "token-duration", 7*24*time.Hour, "life of the token; it is renewed at half of it")
	p.BoolVar(&o.Static, "static", false, "a token without an end, which is never renewed")
	p.StringVar(&r.kind, "type", "remote", "what the Secret is for: remote")
	p.StringVar(&r.auth, "auth-type", "bearer-token", "how the other cluster proves itself: bearer-token or plugin")
	p.StringVar(&r.plugin, "auth-plugin-name", "", "with auth-type plugin: name of the plugin")
	p.StringToStringVar(&r.pluginConfig, "auth-plugin-config", nil, "with auth-type plugin: its settings, as KEY=VALUE")
	return cmd
}

func (r *remoteSecretFlags) run(cmd *cobra.Command, f *kubeFlags) error {
	if err := r.check(); err != nil {
		return err
	}
	config, err := f.restConfig()
	if err != nil {
		return err
	}
	config.Timeout = 15 * time.Second

	o := r.options
	o.Namespace, o.KeepOut, o.Charts = cmp.Or(f.ns, f.istioNamespace), !r.account, charts.FS
	o.ProxyURL = f.proxyURL()
	o.Tell = func(s string) { fmt.Fprintln(cmd.ErrOrStderr(), "note:", s) }
	if r.auth == "plugin" {
		o.Plugin = &clientcmdapi.AuthProviderConfig{Name: r.plugin, Config: r.pluginConfig}
	}

	secret, err := remotesecret.Make(cmd.Context(), config, o)
	if err != nil {
		return err
	}
	text, err := yaml.Marshal(secret)
	if err != nil {
		return fmt.Errorf("encode the secret: %w", err)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "# Lets the control plane that it is applied beside read cluster %s.\n%s---\n", secret.Annotations[remotesecret.ClusterAnnotation], text)
	return err
}

// check looks at what the flags say together.
func (r *remoteSecretFlags) check() error {
	switch r.kind {
	case "remote":
	case "config":
		return fmt.Errorf("--type config: it is for a control plane outside of the cluster whose configuration it reads, and there is none here: each reads the configuration of its own cluster, and others by --type remote")
	default:
		return fmt.Errorf("--type: %q is not remote", r.kind)
	}
	switch r.auth {
	case "bearer-token":
		if r.plugin != "" || len(r.pluginConfig) > 0 {
			return fmt.Errorf("--auth-plugin-name and --auth-plugin-config are for --auth-type plugin")
		}
	case "plugin":
		if strings.TrimSpace(r.plugin) == "" {
			return fmt.Errorf("--auth-type plugin: name the plugin by --auth-plugin-name")
		}
		if r.options.Static {
			return fmt.Errorf("--static: with --auth-type plugin there is no token")
		}
	default:
		return fmt.Errorf("--auth-type: %q is neither bearer-token nor plugin", r.auth)
	}
	return nil
}

// proxyURL is the proxy that the kubeconfig's cluster is reached by; "" when it
// names none.
func (f *kubeFlags) proxyURL() string {
	raw, err := f.clientConfig().RawConfig()
	if err != nil {
		return ""
	}
	context := raw.Contexts[cmp.Or(f.context, raw.CurrentContext)]
	if context == nil || raw.Clusters[context.Cluster] == nil {
		return ""
	}
	return raw.Clusters[context.Cluster].ProxyURL
}
