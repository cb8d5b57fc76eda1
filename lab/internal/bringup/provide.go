package bringup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/isthmus-mesh/isthmus/lab/internal/addon"
	"github.com/isthmus-mesh/isthmus/lab/internal/imagetar"
	"github.com/isthmus-mesh/isthmus/lab/internal/kubeapi"
	"github.com/isthmus-mesh/isthmus/lab/internal/nodeconf"
	"github.com/isthmus-mesh/isthmus/lab/internal/plan"
	"github.com/isthmus-mesh/isthmus/lab/internal/release"
	"github.com/isthmus-mesh/isthmus/lab/samples"
)

// archive is an image in a file.
type archive struct {
	ref  string
	file string
}

// provide sees to the binaries and the images of the clusters' own parts.
func (l *Lab) provide(ctx context.Context, request Request) error {
	programs, err := release.Cluster(l.lab.Kubernetes)
	if err != nil {
		return err
	}

	var dirs []string
	coredns := ""
	for _, p := range programs {
		dir := request.KubernetesBin
		if !release.Complete(dir, p) {
			if dir, err = l.Store.Ensure(ctx, p); err != nil {
				return err
			}
		}
		if p.Name == release.CoreDNS().Name {
			coredns = filepath.Join(dir, "coredns")
			continue
		}
		dirs = append(dirs, dir)
	}

	if request.KubernetesBin != "" || request.FromSource || !allThere(l.lab.BinDirs) {
		l.lab.BinDirs = dirs
	}
	return l.provideImages(ctx, coredns)
}

// allThere reports whether a lab has its programs, and none has been cleared out
// of the cache.
func allThere(dirs []string) bool {
	for _, dir := range dirs {
		if _, err := os.Stat(dir); err != nil {
			return false
		}
	}
	return len(dirs) > 0
}

// provideImages packs the images that every cluster starts with.
func (l *Lab) provideImages(ctx context.Context, coredns string) error {
	pause := release.Own("pause", samples.Pause)
	dir, err := l.Store.Ensure(ctx, pause)
	if err != nil {
		return err
	}

	cache := filepath.Join(l.Store.Cache, "images")
	l.images = []archive{
		{ref: nodeconf.PauseImage, file: filepath.Join(cache, filepath.Base(dir)+".tar")},
		{ref: addon.CoreDNSImage, file: filepath.Join(cache, filepath.Base(filepath.Dir(coredns))+".tar")},
	}

	packed := []imagetar.Image{
		{Entrypoint: []string{"/pause"}, User: "65535:65535", Files: []imagetar.File{{Path: "/pause", Source: filepath.Join(dir, "pause")}}},
		{Entrypoint: []string{"/coredns"}, Files: []imagetar.File{{Path: "/coredns", Source: coredns}}},
	}

	for i, a := range l.images {
		if _, err := os.Stat(a.file); err == nil {
			continue
		}
		if err := imagetar.Write(a.file, a.ref, packed[i]); err != nil {
			return err
		}
	}
	return nil
}

// writeFiles writes the lab's description, every node's configuration and the
// kubeconfig. Secrets that are there already stay.
func (l *Lab) writeFiles() error {
	if err := plan.Save(l.Paths, l.lab); err != nil {
		return err
	}

	var contexts []nodeconf.Context
	for _, c := range l.lab.Clusters {
		if err := l.writeNode(c); err != nil {
			return fmt.Errorf("configure %s: %w", c.Name(), err)
		}
		admin, err := kubeapi.ReadAdmin(l.Paths.Cluster(c).Config())
		if err != nil {
			return err
		}
		contexts = append(contexts, nodeconf.Context{
			Name: c.Name(), Server: fmt.Sprintf("https://127.0.0.1:%d", c.HostPort), Admin: admin,
		})
	}

	if err := plan.WriteFile(l.Paths.Kubeconfig(), nodeconf.Kubeconfig(contexts), 0o600); err != nil {
		return err
	}
	return l.linkKubectl()
}

// writeNode fills the directories of one node.
func (l *Lab) writeNode(c plan.Cluster) error {
	paths := l.Paths.Cluster(c)
	for _, dir := range []string{paths.Config(), paths.VarLib(), paths.VarLog()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}

	node := nodeconf.Node{Lab: l.lab, Cluster: c}
	files, err := node.ComponentFiles()
	if err != nil {
		return err
	}

	// The marker comes last: without it the secrets are made anew.
	marker := filepath.Join(paths.Config(), "secrets-complete")
	if _, err := os.Stat(marker); err != nil {
		secrets, err := node.Secrets(time.Now())
		if err != nil {
			return err
		}
		if err := writeAll(paths.Config(), secrets, 0o600); err != nil {
			return err
		}
		if err := plan.WriteFile(marker, nil, 0o600); err != nil {
			return err
		}
	}

	return writeAll(paths.Config(), files, 0o644)
}

func writeAll(dir string, files map[string][]byte, mode os.FileMode) error {
	for name, data := range files {
		if err := plan.WriteFile(filepath.Join(dir, name), data, mode); err != nil {
			return err
		}
	}
	return nil
}

// kubectl is the kubectl that goes with the lab's Kubernetes.
func (l *Lab) kubectl() (string, error) {
	for _, dir := range l.lab.BinDirs {
		file := filepath.Join(dir, "kubectl")
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
	}
	return "", errors.New("no kubectl among the lab's binaries: run `lab down`, then `lab up`")
}

// linkKubectl puts kubectl where `lab env` points to.
func (l *Lab) linkKubectl() error {
	file, err := l.kubectl()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(l.Paths.Bin(), 0o755); err != nil {
		return fmt.Errorf("make kubectl reachable: %w", err)
	}

	link := filepath.Join(l.Paths.Bin(), "kubectl")
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("make kubectl reachable: %w", err)
	}
	if err := os.Symlink(file, link); err != nil {
		return fmt.Errorf("make kubectl reachable: %w", err)
	}
	return nil
}
