package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/dynamic"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/dns"
	"github.com/isthmus-mesh/isthmus/dns/entries"
)

// newDNSCommand runs the DNS server of the mesh: what the Deployment
// istiocoredns runs.
func newDNSCommand(f *kubeFlags) *cobra.Command {
	c := dns.Config{}
	estate := api.Estate{}
	cmd := &cobra.Command{
		Use:   "dns",
		Short: "Run the DNS server that answers for ServiceEntries",
		Long: `Runs CoreDNS with the plugin "isthmus", which answers A and AAAA queries for
the hosts of ServiceEntries: with the addresses that an entry gives, or with
those that the mesh allocates to hosts without one. It has the last word for its
zones; other questions go to --forward, or are refused.

A Corefile given by --conf may use the plugins cache, errors, forward, health,
log, prometheus, ready, reload and isthmus:

    isthmus [ZONE...] {
        ttl SECONDS
    }`,
		Example: `  isthmus dns --zone global
  isthmus dns --conf /etc/coredns/Corefile`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.CorefilePath != "" {
				for _, name := range []string{"port", "zone", "forward"} {
					if cmd.Flags().Changed(name) {
						return fmt.Errorf("--%s has no place beside --conf: write it into the Corefile", name)
					}
				}
			}
			rest, err := f.restConfig()
			if err != nil {
				return err
			}
			client, err := dynamic.NewForConfig(rest)
			if err != nil {
				return fmt.Errorf("client for ServiceEntries: %w", err)
			}
			log := slog.New(slog.NewTextHandler(os.Stderr, nil))
			c.Names = &dns.Names{}
			g, ctx := errgroup.WithContext(cmd.Context())
			g.Go(func() error { return entries.New(client, c.Names, estate, log).Run(ctx) })
			g.Go(func() error { return dns.Run(ctx, c) })
			return g.Wait()
		},
	}
	cmd.Flags().StringVar(&c.CorefilePath, "conf", "", "Corefile to serve by, instead of the built-in one")
	cmd.Flags().IntVar(&c.Listen, "port", 10053, "UDP and TCP port to serve DNS on")
	cmd.Flags().StringSliceVar(&c.Zones, "zone", []string{api.DefaultGlobalDomain}, "zone that the server has the last word for (repeatable)")
	cmd.Flags().StringVar(&estate.GlobalSuffix, "global-domain", api.DefaultGlobalDomain, "DNS domain of services in other clusters, NAME.NAMESPACE.global")
	cmd.Flags().StringVar(&estate.RootNamespace, "root-namespace", cmp.Or(os.Getenv("POD_NAMESPACE"), api.DefaultNamespace), "namespace whose ServiceEntries may declare any host ($POD_NAMESPACE)")
	cmd.Flags().StringVar(&estate.ClusterDomain, "domain", cmp.Or(os.Getenv("DOMAIN_SUFFIX"), api.DefaultClusterDomain), "DNS domain of Kubernetes services ($DOMAIN_SUFFIX)")
	cmd.Flags().StringVar(&c.Forward, "forward", "", "resolver for all other questions: an address, or a file such as /etc/resolv.conf")
	return cmd
}
