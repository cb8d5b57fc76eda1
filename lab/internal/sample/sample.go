// Package sample packs the images that the sample manifests run: public test
// servers from their Go modules, small programs of our own, and a shell with a
// real curl from Debian's packages. It loads none.
package sample

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/isthmus-mesh/isthmus/lab/internal/imagetar"
	"github.com/isthmus-mesh/isthmus/lab/internal/release"
	"github.com/isthmus-mesh/isthmus/lab/samples"
)

// Hub is the first part of the images' names.
const Hub = "isthmus-samples"

// Versions of what comes from public modules.
const (
	HTTPBinVersion = "v2.26.0"
	FortioVersion  = "v1.66.5"
)

// nobody is the user of images that need no other.
const nobody = "65534:65534"

// Archive is a packed image.
type Archive struct {
	// Name is the image's last name with its tag, for example "sleep:v1".
	Name string
	File string
}

// Ref is the image's name in a cluster.
func (a Archive) Ref() string { return Hub + "/" + a.Name }

// recipe is an image made around one built program.
type recipe struct {
	name    string
	program release.Program
	image   imagetar.Image
}

func recipes() []recipe {
	hello := release.Own("helloworld", samples.HelloWorld)
	return []recipe{
		{"httpbin:v1", httpbin(), imagetar.Image{Entrypoint: []string{"/go-httpbin"}, User: nobody}},
		{"fortio:v1", fortio(), imagetar.Image{Entrypoint: []string{"/fortio"}, Cmd: []string{"server"}, User: nobody}},
		{"helloworld:v1", hello, imagetar.Image{Entrypoint: []string{"/helloworld"}, Env: []string{"SERVICE_VERSION=v1"}, User: nobody}},
		{"helloworld:v2", hello, imagetar.Image{Entrypoint: []string{"/helloworld"}, Env: []string{"SERVICE_VERSION=v2"}, User: nobody}},
		{"tcp-echo:v1", release.Own("tcp-echo", samples.TCPEcho), imagetar.Image{Entrypoint: []string{"/tcp-echo"}, User: nobody}},
	}
}

// httpbin answers on port 8080 with what it was asked, WebSocket included.
func httpbin() release.Program {
	const mod = "github.com/mccutchen/go-httpbin/v2"
	return release.Program{Name: "httpbin", Version: HTTPBinVersion, Module: mod, Packages: []string{mod + "/cmd/go-httpbin"}}
}

// fortio sends load and answers it, HTTP as well as gRPC.
func fortio() release.Program {
	return release.Program{Name: "fortio", Version: FortioVersion, Module: "fortio.org/fortio", Packages: []string{"fortio.org/fortio"}}
}

// Pack packs every sample image that the store's cache lacks and returns
// them all. The image sleep is made of Debian's programs: it is left out where
// this does not run on Linux.
func Pack(ctx context.Context, store *release.Store) ([]Archive, error) {
	cache := filepath.Join(store.Cache, "images")
	var all []Archive
	for _, r := range recipes() {
		dir, err := store.Ensure(ctx, r.program)
		if err != nil {
			return nil, err
		}
		binary := r.program.Binaries()[0]
		r.image.Files = []imagetar.File{{Path: "/" + binary, Source: filepath.Join(dir, binary)}}
		a := Archive{Name: r.name, File: filepath.Join(cache, fmt.Sprintf("%s-%s.tar", flat(r.name), filepath.Base(dir)))}
		if err := pack(a, r.image); err != nil {
			return nil, err
		}
		all = append(all, a)
	}

	if runtime.GOOS != "linux" {
		return all, nil
	}

	image, key, err := sleep(ctx)
	if err != nil {
		return nil, err
	}
	a := Archive{Name: "sleep:v1", File: filepath.Join(cache, "sleep-v1-"+key+".tar")}
	return append(all, a), pack(a, image)
}

func pack(a Archive, image imagetar.Image) error {
	if _, err := os.Stat(a.File); err == nil {
		return nil
	}
	return imagetar.Write(a.File, a.Ref(), image)
}

// Save copies an archive into a directory, under a name that says what it is.
func Save(a Archive, dir string) (string, error) {
	raw, err := os.ReadFile(a.File)
	if err != nil {
		return "", fmt.Errorf("save image %s: %w", a.Name, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("save image %s: %w", a.Name, err)
	}

	file := filepath.Join(dir, flat(a.Name)+".tar")
	if err := os.WriteFile(file, raw, 0o644); err != nil {
		return "", fmt.Errorf("save image %s: %w", a.Name, err)
	}
	return file, nil
}
