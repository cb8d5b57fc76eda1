package failover

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/isthmus-mesh/isthmus/install/image"
)

// Pack builds the command of package traffic, for a machine without libraries,
// and packs it as the image that the pods run: the binary and the archive, in dir.
func Pack(ctx context.Context, root, dir string) (binary, archive string, err error) {
	binary = filepath.Join(dir, "traffic")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", binary, "./bench/failover/traffic")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", "", fmt.Errorf("build the command of the pods: %w\n%s", err, out)
	}

	img, err := image.Pack(image.Spec{Name: "traffic", Binary: binary, Entrypoint: "/traffic"}, imageHub, imageTag)
	if err != nil {
		return "", "", err
	}
	archive = filepath.Join(dir, "traffic.tar")
	_, err = image.Save([]image.Image{img}, archive)
	return binary, archive, err
}
