package release

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

// goMod writes the go.mod from which a program is built. upstream is the
// go.mod of the program's module: its language version and its GODEBUG
// defaults are kept, and relative replacements become published versions.
func goMod(p Program, upstream []byte) ([]byte, error) {
	up, err := modfile.Parse("go.mod", upstream, nil)
	if err != nil {
		return nil, fmt.Errorf("parse go.mod of %s %s: %w", p.Module, p.Version, err)
	}

	f := new(modfile.File)
	if err := f.AddModuleStmt("isthmus.local/lab/" + p.Name); err != nil {
		return nil, err
	}

	if up.Go != nil {
		if err := f.AddGoStmt(up.Go.Version); err != nil {
			return nil, err
		}
	}

	for _, g := range up.Godebug {
		if err := f.AddGodebug(g.Key, g.Value); err != nil {
			return nil, err
		}
	}
	if err := f.AddRequire(p.Module, p.Version); err != nil {
		return nil, err
	}

	for _, r := range p.Requires {
		mod, version, _ := strings.Cut(r, "@")
		if err := f.AddRequire(mod, version); err != nil {
			return nil, err
		}
	}

	if err := addReplaces(f, p, up); err != nil {
		return nil, err
	}
	f.Cleanup()
	return f.Format()
}

// addReplaces repeats the replacements of a module's go.mod, which Go ignores
// in a dependency. Relative ones point into the module's repository; they are
// published under p.Staging.
func addReplaces(f *modfile.File, p Program, up *modfile.File) error {
	for _, r := range up.Replace {
		to := r.New
		if to.Version == "" {
			if p.Staging == "" {
				continue
			}
			to = module.Version{Path: r.Old.Path, Version: p.Staging}
		}
		if err := f.AddReplace(r.Old.Path, r.Old.Version, to.Path, to.Version); err != nil {
			return fmt.Errorf("replace %s in the build of %s: %w", r.Old.Path, p.Name, err)
		}
	}
	return nil
}

// writeSources lays out the module of a program whose source ships with the
// lab.
func writeSources(dir string, p Program) error {
	mod := fmt.Sprintf("module isthmus.local/lab/%s\n\ngo 1.26\n", p.Name)
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(mod), 0o644); err != nil {
		return fmt.Errorf("write the module of %s: %w", p.Name, err)
	}

	for name, data := range p.Sources {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return fmt.Errorf("write the source of %s: %w", p.Name, err)
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			return fmt.Errorf("write the source of %s: %w", p.Name, err)
		}
	}
	return nil
}
