package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/lab/internal/spec"
)

// Builder builds programs into a cache. Two builders may share a cache; they
// take turns.
type Builder struct {
	// Cache is the cache directory; it is made when missing.
	Cache string
	// Environ is the environment of the go command.
	Environ []string
	// Out receives progress lines.
	Out io.Writer
}

// Ensure returns the directory that holds the program's binaries, building
// them when the cache lacks them.
func (b *Builder) Ensure(ctx context.Context, p Program) (string, error) {
	dir := p.Dir(b.Cache)
	if Complete(dir, p) {
		return dir, nil
	}
	if err := os.MkdirAll(b.Cache, 0o755); err != nil {
		return "", fmt.Errorf("make the cache: %w", err)
	}
	unlock, err := spec.Lock(dir + ".lock")
	if err != nil {
		return "", fmt.Errorf("wait for another build of %s %s: %w", p.Name, p.Version, err)
	}
	defer unlock()
	if Complete(dir, p) {
		return dir, nil
	}
	if err := b.build(ctx, p, dir); err != nil {
		return "", fmt.Errorf("build %s %s: %w", p.Name, p.Version, err)
	}
	return dir, nil
}

// Complete reports whether dir holds every binary of p. A directory with its
// final name is always whole, unless someone has taken files out of it.
func Complete(dir string, p Program) bool {
	if dir == "" {
		return false
	}
	for _, name := range p.Binaries() {
		if unix.Access(filepath.Join(dir, name), unix.X_OK) != nil {
			return false
		}
	}
	return true
}

// build compiles p in a scratch directory and renames the result to dir.
func (b *Builder) build(ctx context.Context, p Program, dir string) error {
	if _, err := exec.LookPath("go"); err != nil {
		return errors.New("the go command is not in PATH: install Go 1.21 or newer (it fetches the release that the lab is built with)")
	}
	scratch, err := os.MkdirTemp(b.Cache, ".build-"+p.Name+"-")
	if err != nil {
		return fmt.Errorf("make a scratch directory: %w", err)
	}
	defer os.RemoveAll(scratch)
	if err := b.prepare(ctx, p, scratch); err != nil {
		return err
	}
	out := filepath.Join(scratch, "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		return fmt.Errorf("make the output directory: %w", err)
	}
	meter := newMeter(b.Out, p.Name+" "+p.Version, b.countPackages(ctx, p, scratch))
	if err := b.compile(ctx, p, scratch, out, meter); err != nil {
		return err
	}
	meter.done()
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("replace an incomplete %s: %w", dir, err)
	}
	if err := os.Rename(out, dir); err != nil {
		return fmt.Errorf("put the finished build in place: %w", err)
	}
	return nil
}

// prepare writes the module from which p is built.
func (b *Builder) prepare(ctx context.Context, p Program, scratch string) error {
	if p.Sources != nil {
		return writeSources(scratch, p)
	}
	upstream, err := b.upstreamGoMod(ctx, p, scratch)
	if err != nil {
		return err
	}
	mod, err := goMod(p, upstream)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(scratch, "go.mod"), mod, 0o644); err != nil {
		return fmt.Errorf("write go.mod: %w", err)
	}
	return nil
}

// upstreamGoMod downloads p's module and returns its go.mod.
func (b *Builder) upstreamGoMod(ctx context.Context, p Program, scratch string) ([]byte, error) {
	fmt.Fprintf(b.Out, "%s %s: downloading\n", p.Name, p.Version)
	out, err := b.goCommand(ctx, scratch, "mod", "download", "-json", p.Module+"@"+p.Version).Output()
	var got struct{ GoMod, Error string }
	if jsonErr := json.Unmarshal(out, &got); jsonErr != nil && err == nil {
		err = jsonErr
	}
	if got.Error != "" {
		err = errors.New(got.Error)
	}
	if err != nil {
		return nil, fmt.Errorf("download module %s@%s: %w", p.Module, p.Version, err)
	}
	raw, err := os.ReadFile(got.GoMod)
	if err != nil {
		return nil, fmt.Errorf("read go.mod of %s: %w", p.Module, err)
	}
	return raw, nil
}

// countPackages returns how many packages the build has at most, or 0 when
// that cannot be told; it serves the progress display alone.
func (b *Builder) countPackages(ctx context.Context, p Program, scratch string) int {
	out, err := b.goCommand(ctx, scratch, append([]string{"list", "-deps", tagsFlag(p)}, p.Packages...)...).Output()
	if err != nil {
		return 0
	}
	return strings.Count(string(out), "\n")
}

func (b *Builder) compile(ctx context.Context, p Program, scratch, out string, meter *meter) error {
	args := []string{
		"build", "-v", "-trimpath", "-buildvcs=false", tagsFlag(p),
		"-ldflags", strings.TrimSpace("-s -w " + p.LinkFlags),
		"-o", filepath.Join(out, p.Binary) + trailing(p),
	}
	cmd := b.goCommand(ctx, scratch, append(args, p.Packages...)...)
	cmd.Stderr = meter
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, meter.tail())
	}
	return nil
}

func (b *Builder) goCommand(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(append([]string{}, b.Environ...), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=-mod=mod", "GOWORK=off")
	return cmd
}

func tagsFlag(p Program) string { return "-tags=" + strings.Join(p.Tags, ",") }

// trailing makes the go command take its output for a directory, unless the
// one command has a name of its own.
func trailing(p Program) string {
	if p.Binary != "" {
		return ""
	}
	return string(filepath.Separator)
}
