package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/lab/internal/plan"
)

// Store keeps programs in a cache, and puts there what it lacks: downloaded
// where that can be, compiled otherwise. Processes may share a cache; they take
// turns. A Store is for one goroutine at a time.
type Store struct {
	// Cache is the cache directory; it is made when missing.
	Cache string
	// Environ is the environment of the go command.
	Environ []string
	// Out receives progress lines.
	Out io.Writer
	// Downloads tells where ready-made programs come from; nil: from nowhere,
	// all is compiled.
	Downloads *Downloads
}

// Ensure returns the directory that holds the program's commands.
func (s *Store) Ensure(ctx context.Context, p Program) (string, error) {
	dir := s.dir(p)
	if Complete(dir, p) {
		return dir, nil
	}
	if err := os.MkdirAll(s.Cache, 0o755); err != nil {
		return "", fmt.Errorf("make the cache: %w", err)
	}

	unlock, err := plan.Lock(ctx, dir+".lock", func(waited time.Duration) {
		fmt.Fprintf(s.Out, "%s: another lab is getting it: waiting for that (%s; Ctrl-C gives up)\n", p.label(), waited.Round(time.Second))
	})
	if err != nil {
		return "", fmt.Errorf("get %s: %w", p.label(), err)
	}
	defer unlock()

	if Complete(dir, p) {
		return dir, nil
	}
	if err := s.make(ctx, p, dir); err != nil {
		return "", fmt.Errorf("get %s: %w", p.label(), err)
	}
	return dir, nil
}

// dir is where p is, or is to be. What was compiled on request never takes the
// place of what was downloaded, because a lab may be running from there.
func (s *Store) dir(p Program) string {
	plain := p.Dir(s.Cache)
	compiled := plain + "-source"
	if s.Downloads != nil {
		if !Complete(plain, p) && Complete(compiled, p) {
			return compiled
		}
		return plain
	}

	origins, err := ReadOrigins(plain, p)
	if err == nil && Complete(plain, p) && !origins.Downloaded() {
		return plain
	}
	if p.Official == nil {
		return plain
	}
	return compiled
}

// Complete reports whether dir holds every command of p. A directory with its
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

// make gets p in a scratch directory and renames the result to dir. The caller
// holds the lock of dir.
func (s *Store) make(ctx context.Context, p Program, dir string) error {
	scratch := filepath.Join(s.Cache, ".build-"+filepath.Base(dir))

	// One that was killed may have left its own.
	if err := os.RemoveAll(scratch); err != nil {
		return fmt.Errorf("clear a scratch directory: %w", err)
	}
	defer os.RemoveAll(scratch)

	out := filepath.Join(scratch, "out")
	if err := os.MkdirAll(out, 0o755); err != nil {
		return fmt.Errorf("make a scratch directory: %w", err)
	}

	origins, err := s.download(ctx, p, out)
	if err != nil {
		return err
	}

	if rest := p.without(origins); len(rest.Packages) > 0 {
		if err := (builder{environ: s.Environ, out: s.Out}).build(ctx, rest, scratch, out); err != nil {
			return err
		}
		origins = append(origins, compiled(rest)...)
	}

	if err := writeOrigins(out, origins); err != nil {
		return err
	}
	return replace(out, dir)
}

// replace puts a finished directory in place, on disk before it has its name:
// after a power cut a program must not be there in name only.
func replace(out, dir string) error {
	entries, err := os.ReadDir(out)
	if err != nil {
		return fmt.Errorf("put the programs in place: %w", err)
	}

	for _, e := range entries {
		if err := toDisk(filepath.Join(out, e.Name())); err != nil {
			return err
		}
	}

	if err := toDisk(out); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("replace an incomplete %s: %w", dir, err)
	}
	if err := os.Rename(out, dir); err != nil {
		return fmt.Errorf("put the programs in place: %w", err)
	}
	return toDisk(filepath.Dir(dir))
}

// toDisk writes a file or a directory to disk.
func toDisk(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("write %s to disk: %w", path, err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, fs.ErrInvalid) {
		return fmt.Errorf("write %s to disk: %w", path, err)
	}
	return nil
}
