// Package release provides the programs a cluster is made of: Kubernetes,
// etcd, containerd and CoreDNS. Each is built once per version from its Go
// module and kept in a cache directory; a finished build is recognised by its
// directory, which appears by one rename. It starts none of the programs.
package release

import (
	"fmt"
	"path"
	"path/filepath"
	"runtime"

	"github.com/isthmus-mesh/isthmus/lab/internal/spec"
)

// Versions of what goes with Kubernetes.
const (
	EtcdVersion       = "v3.7.0"
	ContainerdVersion = "v2.4.2"
	CoreDNSVersion    = "v1.15.0"
)

// Program is one or more commands built together from one Go module.
type Program struct {
	// Name and Version name the directory in the cache.
	Name    string
	Version string
	// Module is the Go module that holds the commands.
	Module string
	// Packages are the import paths of the commands.
	Packages []string
	// Binary names the command when there is one and its package has another
	// name.
	Binary string
	// Tags are build tags.
	Tags []string
	// LinkFlags are passed to the linker beside -s -w.
	LinkFlags string
	// Staging replaces the module's own relative replacements by the
	// published modules of this version; empty for modules without any.
	Staging string
	// Requires pins modules beside Module, as "path@version".
	Requires []string
	// Sources are the files of a module of our own, by name; used instead of
	// Module for programs whose source ships with the lab.
	Sources map[string][]byte
}

// Dir is the program's directory under the cache.
func (p Program) Dir(cache string) string {
	return filepath.Join(cache, fmt.Sprintf("%s-%s-%s", p.Name, p.Version, runtime.GOARCH))
}

// Binaries are the file names of the built commands.
func (p Program) Binaries() []string {
	if p.Binary != "" {
		return []string{p.Binary}
	}
	var names []string
	for _, pkg := range p.Packages {
		names = append(names, path.Base(pkg))
	}
	return names
}

// Kubernetes is every Kubernetes command a cluster and its user need.
func Kubernetes(version string) (Program, error) {
	staging, err := spec.StagingVersion(version)
	if err != nil {
		return Program{}, err
	}
	const cmd = "k8s.io/kubernetes/cmd/"
	return Program{
		Name:     "kubernetes",
		Version:  version,
		Module:   "k8s.io/kubernetes",
		Staging:  staging,
		Packages: []string{cmd + "kube-apiserver", cmd + "kube-controller-manager", cmd + "kube-scheduler", cmd + "kubelet", cmd + "kube-proxy", cmd + "kubectl"},
		LinkFlags: "-X k8s.io/component-base/version.gitVersion=" + version +
			" -X k8s.io/client-go/pkg/version.gitVersion=" + version,
	}, nil
}

// Etcd is the store behind the API servers.
func Etcd() Program {
	return Program{
		Name:     "etcd",
		Version:  EtcdVersion,
		Module:   "go.etcd.io/etcd/server/v3",
		Packages: []string{"go.etcd.io/etcd/server/v3"},
		Binary:   "etcd",
	}
}

// Containerd is the container runtime with its shim and its client.
func Containerd() Program {
	const mod = "github.com/containerd/containerd/v2"
	return Program{
		Name:      "containerd",
		Version:   ContainerdVersion,
		Module:    mod,
		Packages:  []string{mod + "/cmd/containerd", mod + "/cmd/containerd-shim-runc-v2", mod + "/cmd/ctr"},
		Tags:      []string{"no_btrfs", "no_devmapper", "no_zfs"},
		LinkFlags: "-X " + mod + "/version.Version=" + ContainerdVersion,
	}
}

// CoreDNS is the clusters' name server.
func CoreDNS() Program {
	return Program{
		Name:      "coredns",
		Version:   CoreDNSVersion,
		Module:    "github.com/coredns/coredns",
		Packages:  []string{"github.com/coredns/coredns"},
		LinkFlags: "-X github.com/coredns/coredns/coremain.GitCommit=" + CoreDNSVersion,
	}
}

// Cluster lists everything a lab runs, quickest build first, so that a broken
// environment shows early.
func Cluster(kubernetes string) ([]Program, error) {
	k, err := Kubernetes(kubernetes)
	if err != nil {
		return nil, err
	}
	return []Program{Etcd(), Containerd(), CoreDNS(), k}, nil
}
