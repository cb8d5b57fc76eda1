package image

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// user is whom the images run as: the proxy's uid, which its own traffic is
// told apart by.
const user = "1337:1337"

// Spec says what an image holds.
type Spec struct {
	// Name is the last part of the image's name, such as pilot.
	Name string
	// Binary is the path of the file to pack; it becomes Entrypoint.
	Binary string
	// Entrypoint is the absolute path of the binary in the image.
	Entrypoint string
}

// Image is a packed image with the name that clusters ask for.
type Image struct {
	Ref name.Tag
	v1.Image
}

// Pack builds an image named HUB/NAME:TAG.
func Pack(s Spec, hub, tag string, opts ...name.Option) (Image, error) {
	ref, err := name.NewTag(fmt.Sprintf("%s/%s:%s", hub, s.Name, tag), opts...)
	if err != nil {
		return Image{}, fmt.Errorf("hub %q and tag %q do not make an image name: %w", hub, tag, err)
	}
	platform, err := platformOf(s.Binary)
	if err != nil {
		return Image{}, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return layerTar(s) },
		tarball.WithCompressionLevel(gzip.BestSpeed), tarball.WithCompressedCaching)
	if err != nil {
		return Image{}, fmt.Errorf("pack %s: %w", s.Binary, err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return Image{}, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return Image{}, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant = platform.OS, platform.Architecture, platform.Variant
	config.Config.Entrypoint = []string{s.Entrypoint}
	config.Config.User = user
	config.Config.WorkingDir = "/"
	img, err = mutate.ConfigFile(img, config)
	return Image{Ref: ref, Image: img}, err
}

// layerTar streams a tar archive with nothing but the binary in it.
func layerTar(s Spec) (io.ReadCloser, error) {
	f, err := os.Open(s.Binary)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	r, w := io.Pipe()
	go func() {
		defer f.Close()
		tw := tar.NewWriter(w)
		err := tw.WriteHeader(&tar.Header{
			Typeflag: tar.TypeReg, Name: strings.TrimPrefix(path.Clean(s.Entrypoint), "/"), Mode: 0o555, Size: info.Size(),
		})
		if err == nil {
			_, err = io.Copy(tw, f)
		}
		w.CloseWithError(errors.Join(err, tw.Close()))
	}()
	return r, nil
}

// Save writes images as docker-archive files and returns their paths: all into
// one when out ends in .tar, else one per image into the directory out.
func Save(images []Image, out string) ([]string, error) {
	if strings.HasSuffix(out, ".tar") {
		if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
			return nil, err
		}
		return []string{out}, write(out, images...)
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, err
	}
	var files []string
	for _, img := range images {
		file := filepath.Join(out, path.Base(img.Ref.RepositoryStr())+".tar")
		if err := write(file, img); err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

// write replaces a file at once, so that no reader sees half of it.
func write(file string, images ...Image) error {
	byTag := map[name.Tag]v1.Image{}
	for _, img := range images {
		byTag[img.Ref] = img.Image
	}
	tmp := file + ".tmp"
	if err := tarball.MultiWriteToFile(tmp, byTag); err != nil {
		os.Remove(tmp)
		return fmt.Errorf("write %s: %w", file, err)
	}
	return os.Rename(tmp, file)
}

// Push uploads an image to its registry with the credentials that docker login
// or its kin left, and returns the image's digest.
func Push(ctx context.Context, img Image) (string, error) {
	err := remote.Write(img.Ref, img.Image, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain))
	if err != nil {
		return "", fmt.Errorf("push %s: %w", img.Ref, err)
	}
	digest, err := img.Digest()
	return digest.String(), err
}
