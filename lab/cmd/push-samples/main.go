// Command push-samples builds the images of the samples and pushes them to a
// registry, for clusters that are not the lab's. Unlike lab itself it runs
// wherever Go does.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/isthmus-mesh/isthmus/lab/internal/imagetar"
	"github.com/isthmus-mesh/isthmus/lab/internal/release"
	"github.com/isthmus-mesh/isthmus/lab/internal/sample"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: push-samples HUB")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := push(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "push-samples:", err)
		os.Exit(1)
	}
}

func push(ctx context.Context, hub string) error {
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	store := &release.Store{Cache: filepath.Join(cache, "isthmus-lab"), Environ: os.Environ(), Out: os.Stderr}
	archives, err := sample.Pack(ctx, store)
	if err != nil {
		return err
	}
	for _, a := range archives {
		ref := hub + "/" + a.Name
		if err := imagetar.Push(a.File, ref); err != nil {
			return err
		}
		fmt.Println("pushed", ref)
	}
	return nil
}
