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
	"time"
)

// builder compiles programs from their Go modules.
type builder struct {
	environ []string // of the go command
	out     io.Writer
}

// build compiles p's commands into the directory out; scratch is an empty
// directory for its use.
func (b builder) build(ctx context.Context, p Program, scratch, out string) error {
	if _, err := exec.LookPath("go"); err != nil {
		return errors.New("the go command is not in PATH: install Go 1.21 or newer (it fetches the release that the lab is built with)")
	}
	show := newDisplay(b.out, p.label(), "downloading its source")
	outcome := ""
	defer func() { show.end(outcome) }()

	if err := b.prepare(ctx, p, scratch); err != nil {
		return err
	}

	meter := &meter{display: show, total: b.countPackages(ctx, p, scratch)}
	show.set("compiling")
	if err := b.compile(ctx, p, scratch, out, meter); err != nil {
		return err
	}
	outcome = "compiled"
	return nil
}

// prepare writes the module from which p is built.
func (b builder) prepare(ctx context.Context, p Program, scratch string) error {
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
func (b builder) upstreamGoMod(ctx context.Context, p Program, scratch string) ([]byte, error) {
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
func (b builder) countPackages(ctx context.Context, p Program, scratch string) int {
	out, err := b.goCommand(ctx, scratch, append([]string{"list", "-deps", tagsFlag(p)}, p.Packages...)...).Output()
	if err != nil {
		return 0
	}
	return strings.Count(string(out), "\n")
}

func (b builder) compile(ctx context.Context, p Program, scratch, out string, meter *meter) error {
	args := []string{
		"build", "-v", "-trimpath", "-buildvcs=false", tagsFlag(p),
		"-ldflags", strings.TrimSpace("-s -w " + p.LinkFlags),
		"-o", filepath.Join(out, p.Binary) + trailing(p),
	}

	cmd := b.goCommand(ctx, scratch, append(args, p.Packages...)...)
	cmd.Stderr = meter
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err() // the compiler's last words are no reason
		}
		return fmt.Errorf("go build: %w\n%s", err, meter.tail())
	}
	return nil
}

// goWaitDelay bounds the wait for compilers that outlive a go command which was
// ended, and hold its output open.
const goWaitDelay = 5 * time.Second

func (b builder) goCommand(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.WaitDelay = goWaitDelay
	cmd.Env = append(append([]string{}, b.environ...), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=-mod=mod", "GOWORK=off")
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
