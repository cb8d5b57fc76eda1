package sample

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/lab/internal/imagetar"
)

const (
	busybox  = "/bin/busybox"
	caBundle = "/etc/ssl/certs/ca-certificates.crt"
)

// flat turns an image name into a file name.
func flat(name string) string { return strings.ReplaceAll(name, ":", "-") }

// sleep is the image that people call from: busybox with all its applets, and
// curl with its libraries. The key names this build of it.
func sleep(ctx context.Context) (imagetar.Image, string, error) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		return imagetar.Image{}, "", errors.New("the sleep image needs curl: run `lab deps --install`")
	}

	applets, err := exec.CommandContext(ctx, busybox, "--list").Output()
	if err != nil {
		return imagetar.Image{}, "", fmt.Errorf("the sleep image needs Debian's busybox-static: run `lab deps --install` (%w)", err)
	}

	out, err := exec.CommandContext(ctx, "ldd", curl).Output()
	if err != nil {
		return imagetar.Image{}, "", fmt.Errorf("find the libraries of curl: %w", err)
	}

	files := []imagetar.File{
		{Path: busybox, Source: busybox},
		{Path: "/usr/bin/curl", Source: curl},
		{Path: caBundle, Source: caBundle, Mode: 0o644},
		{Path: "/etc/nsswitch.conf", Data: []byte("hosts: files dns\n"), Mode: 0o644},
		{Path: "/etc/passwd", Data: []byte("root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"), Mode: 0o644},
		{Path: "/etc/group", Data: []byte("root:x:0:\nnogroup:x:65534:\n"), Mode: 0o644},
	}

	for applet := range strings.FieldsSeq(string(applets)) {
		if applet != "busybox" {
			files = append(files, imagetar.File{Path: "/bin/" + applet, Link: "busybox"})
		}
	}
	for _, lib := range libraries(string(out)) {
		files = append(files, imagetar.File{Path: lib, Source: lib})
	}

	key, err := digest(files)
	if err != nil {
		return imagetar.Image{}, "", err
	}
	return imagetar.Image{
		Files: files,
		Cmd:   []string{"/bin/sleep", "infinity"},
		Env:   []string{"PATH=/usr/local/bin:/usr/bin:/bin"},
		User:  nobody,
	}, key, nil
}

// libraries lists the files in what ldd prints; the loader is among them.
func libraries(ldd string) []string {
	var libs []string
	for field := range strings.FieldsSeq(ldd) {
		if strings.HasPrefix(field, "/") && !slices.Contains(libs, field) {
			libs = append(libs, field)
		}
	}
	return libs
}

// digest names the content of files.
func digest(files []imagetar.File) (string, error) {
	sum := sha256.New()
	for _, f := range files {
		data := f.Data
		if f.Source != "" {
			var err error
			if data, err = os.ReadFile(f.Source); err != nil {
				return "", fmt.Errorf("read %s for an image: %w", f.Source, err)
			}
		}
		part := sha256.Sum256(data)
		fmt.Fprintf(sum, "%s %s %s\n", f.Path, f.Link, hex.EncodeToString(part[:]))
	}
	return hex.EncodeToString(sum.Sum(nil))[:12], nil
}
