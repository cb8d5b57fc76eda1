// Package release provides the programs a cluster is made of: Kubernetes,
// etcd, containerd and CoreDNS. Each is downloaded from its makers, or compiled
// from its Go module where that cannot be, once per version, and kept in a
// cache directory; a finished program is recognised by its directory, which
// appears by one rename. It starts none of the programs.
package release

import (
	"fmt"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/isthmus-mesh/isthmus/lab/internal/plan"
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
	// Official says where the program is published ready-made; nil for one
	// that is always compiled.
	Official *Official
}

// label is what people call the program.
func (p Program) label() string { return p.Name + " " + p.Version }

// without is the program less the commands that are there already.
func (p Program) without(have Origins) Program {
	names := p.Binaries()
	var rest []string
	for i, pkg := range p.Packages {
		if !have.has(names[i]) {
			rest = append(rest, pkg)
		}
	}
	p.Packages = rest
	return p
}

// Dir is the program's directory under the cache.
func (p Program) Dir(cache string) string {
	return filepath.Join(cache, fmt.Sprintf("%s-%s-%s", p.Name, p.Version, runtime.GOARCH))
}

// Binaries are the file names of the commands, in the order of Packages.
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
	staging, err := plan.StagingVersion(version)
	if err != nil {
		return Program{}, err
	}

	p := Program{
		Name:    "kubernetes",
		Version: version,
		Module:  "k8s.io/kubernetes",
		Staging: staging,
		LinkFlags: "-X k8s.io/component-base/version.gitVersion=" + version +
			" -X k8s.io/client-go/pkg/version.gitVersion=" + version,
		Official: &Official{Site: "https://dl.k8s.io/release", Folder: "kubernetes"},
	}

	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"} {
		p.Packages = append(p.Packages, "k8s.io/kubernetes/cmd/"+name)
		file := fmt.Sprintf("%s/bin/linux/%s/%s", version, runtime.GOARCH, name)
		p.Official.Files = append(p.Official.Files, ReleaseFile{Path: file, Checksums: file + ".sha256"})
	}
	return p, nil
}

// archive is a release that is one .tar.gz, with its list of checksums beside
// it.
func archive(site, folder, version, file, checksums string, members ...string) *Official {
	return &Official{Site: site, Folder: folder, Files: []ReleaseFile{
		{Path: version + "/" + file, Checksums: version + "/" + checksums, Members: members},
	}}
}

// Etcd is the store behind the API servers.
func Etcd() Program {
	name := "etcd-" + EtcdVersion + "-linux-" + runtime.GOARCH
	return Program{
		Name:     "etcd",
		Version:  EtcdVersion,
		Module:   "go.etcd.io/etcd/server/v3",
		Packages: []string{"go.etcd.io/etcd/server/v3"},
		Binary:   "etcd",
		Official: archive("https://github.com/etcd-io/etcd/releases/download", "etcd", EtcdVersion,
			name+".tar.gz", "SHA256SUMS", name+"/etcd"),
	}
}

// Containerd is the container runtime with its shim and its client. Of the two
// kinds of release the static one is taken: the other wants the host's libc to
// be glibc.
func Containerd() Program {
	const mod = "github.com/containerd/containerd/v2"
	file := "containerd-static-" + strings.TrimPrefix(ContainerdVersion, "v") + "-linux-" + runtime.GOARCH + ".tar.gz"
	return Program{
		Name:      "containerd",
		Version:   ContainerdVersion,
		Module:    mod,
		Packages:  []string{mod + "/cmd/containerd", mod + "/cmd/containerd-shim-runc-v2", mod + "/cmd/ctr"},
		Tags:      []string{"no_btrfs", "no_devmapper", "no_zfs"},
		LinkFlags: "-X " + mod + "/version.Version=" + ContainerdVersion,
		Official: archive("https://github.com/containerd/containerd/releases/download", "containerd", ContainerdVersion,
			file, file+".sha256sum", "bin/containerd", "bin/containerd-shim-runc-v2", "bin/ctr"),
	}
}

// CoreDNS is the clusters' name server.
func CoreDNS() Program {
	file := "coredns_" + strings.TrimPrefix(CoreDNSVersion, "v") + "_linux_" + runtime.GOARCH + ".tgz"
	return Program{
		Name:      "coredns",
		Version:   CoreDNSVersion,
		Module:    "github.com/coredns/coredns",
		Packages:  []string{"github.com/coredns/coredns"},
		LinkFlags: "-X github.com/coredns/coredns/coremain.GitCommit=" + CoreDNSVersion,
		Official: archive("https://github.com/coredns/coredns/releases/download", "coredns", CoreDNSVersion,
			file, file+".sha256", "coredns"),
	}
}

// Cluster lists everything a lab runs, the quickest to compile first, so that a
// broken environment shows early.
func Cluster(kubernetes string) ([]Program, error) {
	k, err := Kubernetes(kubernetes)
	if err != nil {
		return nil, err
	}
	return []Program{Etcd(), Containerd(), CoreDNS(), k}, nil
}
