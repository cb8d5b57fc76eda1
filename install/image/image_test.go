package image

import (
	"archive/tar"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// static writes the header of a static Linux binary for a machine.
func static(t *testing.T, machine elf.Machine) string {
	t.Helper()
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT), Ehsize: 64, Phentsize: 56, Shentsize: 64}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	f, err := os.Create(filepath.Join(t.TempDir(), "bin"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := binary.Write(f, binary.LittleEndian, h); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

func TestPackSaveAndRead(t *testing.T) {
	img, err := Pack(Spec{Name: "pilot", Binary: static(t, elf.EM_AARCH64), Entrypoint: "/isthmus"}, "hub.example/mesh", "v1")
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "images")
	files, err := Save([]Image{img}, out)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{filepath.Join(out, "pilot.tar")}, files); diff != "" {
		t.Fatal(diff)
	}
	tag, err := name.NewTag("hub.example/mesh/pilot:v1")
	if err != nil {
		t.Fatal(err)
	}
	back, err := tarball.ImageFromPath(files[0], &tag)
	if err != nil {
		t.Fatal(err)
	}
	config, err := back.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.OS != "linux" || config.Architecture != "arm64" || config.Config.User != "1337:1337" ||
		!cmp.Equal(config.Config.Entrypoint, []string{"/isthmus"}) {
		t.Errorf("config: %+v", config)
	}
	layers, err := back.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	r, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	tr := tar.NewReader(r)
	h, err := tr.Next()
	if err != nil || h.Name != "isthmus" || h.Mode != 0o555 || h.Uid != 0 {
		t.Errorf("first file: %+v, %v", h, err)
	}
	if _, err := tr.Next(); err != io.EOF {
		t.Errorf("the image holds more than the binary: %v", err)
	}
}

// TestReproducible: one binary, one image.
func TestReproducible(t *testing.T) {
	file := static(t, elf.EM_X86_64)
	var digests []string
	for range 2 {
		img, err := Pack(Spec{Name: "p", Binary: file, Entrypoint: "/p"}, "h.example", "t")
		if err != nil {
			t.Fatal(err)
		}
		d, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, d.String())
	}
	if digests[0] != digests[1] {
		t.Errorf("two packings differ: %v", digests)
	}
}

func TestRefused(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("hello"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ binary, hub, want string }{
		{text, "h.example", "is not a Linux binary"},
		{filepath.Join(t.TempDir(), "none"), "h.example", "no such file"},
		{static(t, elf.EM_68K), "h.example", "not supported"},
		{static(t, elf.EM_X86_64), "Not A Hub", "do not make an image name"},
	} {
		if _, err := Pack(Spec{Name: "p", Binary: tc.binary, Entrypoint: "/p"}, tc.hub, "t"); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, which does not say %q", tc.binary, err, tc.want)
		}
	}
	if runtime.GOOS == "linux" {
		if _, err := platformOf("/bin/sh"); err == nil || !strings.Contains(err.Error(), "shared libraries") {
			t.Errorf("a dynamic binary: %v", err)
		}
	}
}
