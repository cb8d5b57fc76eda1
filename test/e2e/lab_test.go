//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

const (
	labName   = "e2e"
	peerImage = "isthmus-test/peer:v1"
)

// repo is the root of the repository.
func repo(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// shell runs one bash script as a person at a terminal would: in dir, with
// bin on the PATH and the kubeconfig of the lab.
type shell struct {
	dir string
	env []string
}

// run returns what the script printed on both streams, and its error.
func (s shell) run(ctx context.Context, script string) (string, error) {
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = s.dir
	// Over WebSockets, kubectl exec now and then drops output that comes before it
	// has its streams ("Unknown stream id 1, discarding message").
	cmd.Env = append(append(os.Environ(), "KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false"), s.env...)
	cmd.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// must runs the script and ends the test if it fails.
func (s shell) must(t testing.TB, script string) string {
	t.Helper()
	t.Logf("$ %s", strings.TrimSpace(script))
	started := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	out, err := s.run(ctx, script)
	if err != nil {
		t.Fatalf("%v after %s\n%s", err, time.Since(started).Round(time.Millisecond), out)
	}
	t.Logf("(%s) %s", time.Since(started).Round(time.Millisecond), strings.TrimSpace(out))
	return strings.TrimSpace(out)
}

// refused runs the script and ends the test if it succeeds.
func (s shell) refused(t testing.TB, script string) string {
	t.Helper()
	t.Logf("$ %s", strings.TrimSpace(script))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := s.run(ctx, script)
	if err == nil {
		t.Fatalf("it was let through:\n%s", out)
	}
	t.Logf("refused: %s", lastLine(out))
	return out
}

// eventually repeats the script until it succeeds or the time is over.
func (s shell) eventually(t testing.TB, within time.Duration, script string) string {
	t.Helper()
	t.Logf("$ %s   # within %s", strings.TrimSpace(script), within)
	started := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	for {
		out, err := s.run(ctx, script)
		if err == nil {
			t.Logf("(%s) %s", time.Since(started).Round(time.Millisecond), strings.TrimSpace(out))
			return strings.TrimSpace(out)
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %s: %v\n%s", within, err, out)
		case <-time.After(300 * time.Millisecond):
		}
	}
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// startLab starts the lab of the mesh's tests, two clusters with everything that
// runs in them loaded, and returns a shell at root. The lab is gone when the test
// ends.
func startLab(t *testing.T, root string) shell {
	t.Helper()
	s := bareLab(t, root, labName, "--clusters 2 --network multi")
	s.must(t, "lab --name "+labName+" sample-images")
	tarFile := filepath.Join(t.TempDir(), "peer.tar")
	packPeer(t, root, tarFile)
	s.must(t, "lab --name "+labName+" load-image "+tarFile)
	return s
}

// bareLab starts a lab with nothing but the mesh's images loaded.
func bareLab(t *testing.T, root, lab, flags string) shell {
	t.Helper()
	path := "PATH=" + filepath.Join(root, "bin") + ":" + os.Getenv("PATH")
	host := shell{dir: root, env: []string{path}}
	host.must(t, "lab --name "+lab+" down")
	if os.Getenv("ISTHMUS_E2E_KEEP") == "" {
		t.Cleanup(func() {
			if out, err := host.run(context.Background(), "lab --name "+lab+" down"); err != nil {
				t.Errorf("lab down: %v\n%s", err, out)
			}
		})
	}
	host.must(t, "lab --name "+lab+" up "+flags)
	host.must(t, "for image in dist/images/*.tar; do lab --name "+lab+" load-image $image; done")
	kubeconfig := host.must(t, "eval $(lab --name "+lab+" env); echo $KUBECONFIG; command -v kubectl >/dev/null")
	kubectl := host.must(t, "eval $(lab --name "+lab+" env); dirname $(command -v kubectl)")
	return shell{dir: root, env: []string{path + ":" + kubectl, "KUBECONFIG=" + kubeconfig}}
}

// buildPeer builds the peer for a machine without libraries.
func buildPeer(t *testing.T, root, binary string) string {
	t.Helper()
	build := exec.Command("go", "build", "-o", binary, "./test/e2e/peer")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build peer: %v\n%s", err, out)
	}
	return binary
}

// packPeer builds the peer and packs it as an image.
func packPeer(t *testing.T, root, tarFile string) {
	t.Helper()
	binary := buildPeer(t, root, filepath.Join(t.TempDir(), "peer"))
	body, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.WriteHeader(&tar.Header{Name: "peer", Mode: 0o755, Size: int64(len(body))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", goarch(t)
	cfg.Config.Entrypoint = []string{"/peer"}
	if img, err = mutate.ConfigFile(img, cfg); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(peerImage)
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(tarFile, tag, img); err != nil {
		t.Fatal(err)
	}
}

func goarch(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOARCH").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// release lays out the folder in which the seed's commands are typed, with the
// certificates of one cluster in samples/certs and its context as the current
// one.
func (s shell) release(t testing.TB, root, certs, cluster string) shell {
	t.Helper()
	dir := t.TempDir()
	for _, link := range []string{"manifests", "samples/httpbin", "samples/sleep", "samples/fortio"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, link)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(root, link), filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	own := shell{dir: dir, env: append([]string{}, s.env...)}
	own.must(t, fmt.Sprintf("isthmus x ca create-intermediate --cluster %s --root-dir %s --out samples/certs", cluster, certs))
	own.must(t, fmt.Sprintf("cp $KUBECONFIG kubeconfig && kubectl --kubeconfig kubeconfig config use-context %s", cluster))
	own.env = append(own.env, "KUBECONFIG="+filepath.Join(dir, "kubeconfig"))
	return own
}
