package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/isthmus-mesh/isthmus/install/image"
	"github.com/isthmus-mesh/isthmus/version"
)

// imageFlags say which binaries become images, and under which names.
type imageFlags struct {
	hub, tag            string
	binary, proxyBinary string
	insecure            bool
}

func (i *imageFlags) add(p *pflag.FlagSet) {
	p.StringVar(&i.hub, "hub", version.DefaultHub, "repository of the images, as for install --set hub=")
	p.StringVar(&i.tag, "tag", version.Version, "tag of the images, as for install --set tag=")
	p.StringVar(&i.binary, "binary", "", "the isthmus `file` for the clusters' platform (default: the one that is running)")
	p.StringVar(&i.proxyBinary, "proxy-binary", "", "the isthmus-proxy `file` (default: the one beside isthmus)")
}

// pack builds the images pilot and proxyv2.
func (i *imageFlags) pack() ([]image.Image, error) {
	binary, proxy := i.binary, i.proxyBinary
	if binary == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		if binary, err = filepath.EvalSymlinks(self); err != nil {
			return nil, err
		}
	}
	if proxy == "" {
		proxy = filepath.Join(filepath.Dir(binary), "isthmus-proxy")
	}
	var opts []name.Option
	if i.insecure {
		opts = append(opts, name.Insecure)
	}
	var images []image.Image
	for _, s := range []image.Spec{
		{Name: "pilot", Binary: binary, Entrypoint: "/isthmus"},
		{Name: "proxyv2", Binary: proxy, Entrypoint: "/isthmus-proxy"},
	} {
		img, err := image.Pack(s, i.hub, i.tag, opts...)
		if err != nil {
			return nil, err
		}
		images = append(images, img)
	}
	return images, nil
}

func newImageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Pack the binaries as the images that clusters run",
		Long: `Makes two images, each of one static binary on an empty root file system:
HUB/pilot:TAG from isthmus, HUB/proxyv2:TAG from isthmus-proxy. No Docker is needed.`,
	}
	cmd.AddCommand(newImageSaveCommand(), newImagePushCommand())
	return cmd
}

func newImageSaveCommand() *cobra.Command {
	i := &imageFlags{}
	var out string
	cmd := &cobra.Command{
		Use:   "save",
		Short: "Write the images as docker-archive files",
		Example: `  # pilot.tar and proxyv2.tar, for docker load, ctr images import or kind load
  isthmus image save -o images/

  # Both in one file
  isthmus image save --hub registry.example.com/mesh --tag v1 -o mesh.tar`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			images, err := i.pack()
			if err != nil {
				return err
			}
			files, err := image.Save(images, out)
			if err != nil {
				return err
			}
			for _, img := range images {
				fmt.Fprintln(cmd.OutOrStdout(), img.Ref)
			}
			for _, f := range files {
				fmt.Fprintln(cmd.OutOrStdout(), f)
			}
			return nil
		},
	}
	i.add(cmd.Flags())
	cmd.Flags().StringVarP(&out, "output", "o", "", "a `file` ending in .tar for both images, or a directory for one file each")
	_ = cmd.MarkFlagRequired("output")
	return cmd
}

func newImagePushCommand() *cobra.Command {
	i := &imageFlags{}
	cmd := &cobra.Command{
		Use:     "push",
		Short:   "Upload the images to a registry",
		Example: `  isthmus image push --hub registry.example.com/mesh --tag v1`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			images, err := i.pack()
			if err != nil {
				return err
			}
			for _, img := range images {
				digest, err := image.Push(cmd.Context(), img)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s@%s\n", img.Ref, digest)
			}
			return nil
		},
	}
	i.add(cmd.Flags())
	cmd.Flags().BoolVar(&i.insecure, "insecure", false, "allow a registry that speaks plain HTTP")
	return cmd
}
