package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/ca"
)

// defaultCertDir is where the commands that create the secret cacerts look.
const defaultCertDir = "samples/certs"

// newXCACommand is `x ca`: the files of a mesh's certificate authority.
func newXCACommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "ca",
		Short: "Make the certificates that the clusters of a mesh share",
		Long: `Makes the certificates that the clusters of a mesh share: one root, and under
it a signing certificate for each cluster. The root's key stays with you; a
cluster is given the four files of its own, as the secret cacerts.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(newCreateRootCommand(), newCreateIntermediateCommand())
	return c
}

// certFlags are the flags that both commands have.
type certFlags struct {
	out, org string
	ttl      time.Duration
	force    bool
}

func (f *certFlags) bind(c *cobra.Command, ttl time.Duration) {
	c.Flags().StringVarP(&f.out, "out", "o", defaultCertDir, "directory to write to")
	c.Flags().StringVar(&f.org, "org", "Isthmus", "organisation in the certificate")
	c.Flags().DurationVar(&f.ttl, "ttl", ttl, "lifetime of the certificate")
	c.Flags().BoolVar(&f.force, "force", false, "overwrite files that are there")
}

func newCreateRootCommand() *cobra.Command {
	var f certFlags
	c := &cobra.Command{
		Use:   "create-root",
		Short: "Make the root that all clusters trust",
		Long: `Makes the root that all clusters trust: root-cert.pem, and root-key.pem, which
only create-intermediate needs. Keep the key off the clusters.`,
		Example: `  # Once for all clusters
  isthmus x ca create-root

  # Somewhere else, valid for five years
  isthmus x ca create-root --out ~/mesh-root --org "Example Ltd" --ttl 43800h`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return createRoot(cmd.OutOrStdout(), f) },
	}
	f.bind(c, 10*365*24*time.Hour)
	return c
}

func createRoot(w io.Writer, f certFlags) error {
	root, err := ca.CreateRoot(f.org, f.ttl, time.Now())
	if err != nil {
		return fmt.Errorf("make a root: %w", err)
	}
	key, err := root.KeyPEM()
	if err != nil {
		return err
	}
	return writeCerts(w, f, map[string][]byte{ca.FileRoot: root.CertPEM(), ca.FileRootKey: key})
}

func newCreateIntermediateCommand() *cobra.Command {
	var f certFlags
	var cluster, rootDir string
	c := &cobra.Command{
		Use:   "create-intermediate --cluster NAME",
		Short: "Make a cluster's signing certificate under the root",
		Long: `Makes a cluster's signing certificate under the root, and writes the four files
of the secret cacerts: ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem.`,
		Example: `  # The files for cluster-1, then the secret
  isthmus x ca create-intermediate --cluster cluster-1
  kubectl create namespace istio-system
  kubectl create secret generic cacerts -n istio-system \
    --from-file=samples/certs/ca-cert.pem --from-file=samples/certs/ca-key.pem \
    --from-file=samples/certs/root-cert.pem --from-file=samples/certs/cert-chain.pem

  # The files for cluster-2, under the same root, beside them
  isthmus x ca create-intermediate --cluster cluster-2 --out samples/certs/cluster-2`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return createIntermediate(cmd.OutOrStdout(), f, cluster, rootDir)
		},
	}
	f.bind(c, 5*365*24*time.Hour)
	c.Flags().StringVar(&cluster, "cluster", "", "name of the cluster (required)")
	c.Flags().StringVar(&rootDir, "root-dir", defaultCertDir, "directory of root-cert.pem and root-key.pem")
	return c
}

func createIntermediate(w io.Writer, f certFlags, cluster, rootDir string) error {
	if strings.TrimSpace(cluster) == "" {
		return errors.New("--cluster is missing: name the cluster that the certificate is for, for example --cluster cluster-1")
	}
	root, err := ca.ReadRoot(rootDir, time.Now())
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no root to sign with: %w; make one with: isthmus x ca create-root --out %s", err, rootDir)
	}
	if err != nil {
		return err
	}
	signing, err := ca.CreateIntermediate(root, f.org, cluster, f.ttl, time.Now())
	if err != nil {
		return fmt.Errorf("make the signing certificate of %s: %w", cluster, err)
	}
	files, err := ca.Files(signing, root.Cert)
	if err != nil {
		return err
	}
	return writeCerts(w, f, files)
}

func writeCerts(w io.Writer, f certFlags, files map[string][]byte) error {
	paths, err := ca.WriteFiles(f.out, files, f.force)
	var exist *ca.ExistsError
	if errors.As(err, &exist) {
		return fmt.Errorf("%w; nothing was written: name another directory with --out, or overwrite with --force", err)
	}
	if err != nil {
		return fmt.Errorf("write certificates: %w", err)
	}
	for _, p := range paths {
		fmt.Fprintln(w, "wrote", p)
	}
	return nil
}
