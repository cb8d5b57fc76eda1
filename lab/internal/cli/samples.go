package cli

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/lab/internal/imagetar"
	"github.com/isthmus-mesh/isthmus/lab/internal/preflight"
	"github.com/isthmus-mesh/isthmus/lab/internal/sample"
)

func (a *app) sampleImagesCommand() *cobra.Command {
	var hub, dir string
	var only []string
	cmd := &cobra.Command{
		Use:   "sample-images",
		Short: "Build the images of the samples and load them into the clusters",
		Long: `Build the images of the samples and load them into the lab's clusters. With
--push or --save the images go to a registry or a directory as well, and no lab
needs to be there.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := preflight.Packages(preflight.MissingForSamples(preflight.Lookup)); err != nil {
				return err
			}

			elsewhere := hub != "" || dir != ""
			if _, _, err := a.load(); err != nil && !(elsewhere && errors.Is(err, fs.ErrNotExist)) {
				return err
			}

			archives, err := sample.Pack(cmd.Context(), a.storeFromSource())
			if err != nil {
				return err
			}

			for _, archive := range archives {
				if err := a.deliver(archive, hub, dir); err != nil {
					return err
				}
			}
			return a.loadSamples(cmd, only, archives, elsewhere)
		},
	}

	f := cmd.Flags()
	f.StringVar(&hub, "push", "", "registry and path to push to, as HUB/NAME:TAG")
	f.StringVar(&dir, "save", "", "directory to write the archives to")
	f.StringSliceVar(&only, "cluster", nil, "clusters to load into (default all)")
	return cmd
}

// deliver takes an image to where the user wants it beside the clusters.
func (a *app) deliver(archive sample.Archive, hub, dir string) error {
	if dir != "" {
		file, err := sample.Save(archive, dir)
		if err != nil {
			return err
		}
		fmt.Fprintln(a.env.Stdout, "saved", file)
	}

	if hub != "" {
		ref := hub + "/" + archive.Name
		if err := imagetar.Push(archive.File, ref); err != nil {
			return err
		}
		fmt.Fprintln(a.env.Stdout, "pushed", ref)
	}
	return nil
}

// loadSamples loads the images into the lab; where there is none, that is an
// error unless the images went elsewhere.
func (a *app) loadSamples(cmd *cobra.Command, only []string, archives []sample.Archive, elsewhere bool) error {
	if _, _, err := a.load(); errors.Is(err, fs.ErrNotExist) && elsewhere {
		return nil
	}
	var files []string
	for _, archive := range archives {
		files = append(files, archive.File)
	}
	return a.loadImages(cmd, only, files)
}
