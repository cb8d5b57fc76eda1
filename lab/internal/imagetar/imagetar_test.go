package imagetar_test

import (
	"archive/tar"
	"bytes"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/isthmus-mesh/isthmus/lab/internal/imagetar"
)

// write packs a small image and returns its archive.
func write(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "binary")
	if err := os.WriteFile(source, []byte("#!"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "image.tar")
	err := imagetar.Write(file, "example/thing:v1", imagetar.Image{
		Entrypoint: []string{"/usr/bin/thing"},
		Env:        []string{"A=b"},
		User:       "65534:65534",
		Files: []imagetar.File{
			{Path: "/usr/bin/thing", Source: source},
			{Path: "/bin/thing", Link: "../usr/bin/thing"},
			{Path: "/etc/thing.conf", Data: []byte("x=1\n"), Mode: 0o644},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func TestWrite(t *testing.T) {
	tag, err := name.NewTag("example/thing:v1")
	if err != nil {
		t.Fatal(err)
	}
	img, err := tarball.ImageFromPath(write(t), &tag)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.OS != "linux" || cfg.Config.User != "65534:65534" || cfg.Config.Entrypoint[0] != "/usr/bin/thing" || cfg.Config.Env[0] != "A=b" {
		t.Errorf("configuration %+v", cfg)
	}
	got := map[string]*tar.Header{}
	data := map[string]string{}
	r := tar.NewReader(mutate.Extract(img))
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got[strings.TrimSuffix(h.Name, "/")], data[h.Name] = h, string(raw)
	}
	if h := got["usr/bin/thing"]; h == nil || h.Mode != 0o755 || data["usr/bin/thing"] != "#!" {
		t.Errorf("binary: %+v", h)
	}
	if h := got["bin/thing"]; h == nil || h.Linkname != "../usr/bin/thing" {
		t.Errorf("link: %+v", h)
	}
	if h := got["etc/thing.conf"]; h == nil || h.Mode != 0o644 {
		t.Errorf("data: %+v", h)
	}
	if h := got["tmp"]; h == nil || h.Mode != 0o1777 {
		t.Errorf("/tmp: %+v", h)
	}
}

func TestSameFilesSameBytes(t *testing.T) {
	a, err := os.ReadFile(write(t))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(write(t))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("two packings of the same files differ")
	}
}

func TestMissingSourceLeavesNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "image.tar")
	err := imagetar.Write(file, "x:v1", imagetar.Image{Files: []imagetar.File{{
		Path:   "/x",
		Source: "/does/not/exist",
	}}})
	if err == nil || !strings.Contains(err.Error(), "/does/not/exist") {
		t.Fatalf("got %v, want the file's name", err)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Error("an archive is left")
	}
}

func TestPush(t *testing.T) {
	srv := httptest.NewServer(registry.New())
	defer srv.Close()
	ref := strings.TrimPrefix(srv.URL, "http://") + "/hub/thing:v1"
	if err := imagetar.Push(write(t), ref); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Image(tag); err != nil {
		t.Fatal(err)
	}
}
