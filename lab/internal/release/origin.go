package release

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/isthmus-mesh/isthmus/lab/internal/fetch"
)

// originFile lies beside a program's commands.
const originFile = "origin.json"

// Origin says where a command comes from: a download, or a Go module.
type Origin struct {
	Command string `json:"command"`
	// Module is the module that the command was compiled from, with its
	// version.
	Module string `json:"module,omitempty"`
	// URL is where the command, or an archive with it, was downloaded; without
	// a password.
	URL string `json:"url,omitempty"`
	// Path names the downloaded file in lists of checksums and under mirrors.
	Path string `json:"path,omitempty"`
	// SHA256 is that of the downloaded file.
	SHA256 fetch.Sum `json:"sha256,omitzero"`
	// Pinned is set when the checksum was the user's, not the server's.
	Pinned bool `json:"pinned,omitempty"`
}

// Origins are those of a program's commands.
type Origins []Origin

// Downloaded reports whether any command is not of this machine's making.
func (o Origins) Downloaded() bool {
	return slices.ContainsFunc(o, func(one Origin) bool { return one.URL != "" })
}

// has reports whether a command is among them.
func (o Origins) has(command string) bool {
	return slices.ContainsFunc(o, func(one Origin) bool { return one.Command == command })
}

// compiled are the origins of a program that was compiled.
func compiled(p Program) Origins {
	module := p.Module + "@" + p.Version
	if p.Module == "" {
		module = "the lab's own source"
	}
	var all Origins
	for _, command := range p.Binaries() {
		all = append(all, Origin{Command: command, Module: module})
	}
	return all
}

// ReadOrigins tells where the commands in p's directory come from. Before there
// were downloads nothing was written down: such a program was compiled.
func ReadOrigins(dir string, p Program) (Origins, error) {
	raw, err := os.ReadFile(filepath.Join(dir, originFile))
	if errors.Is(err, fs.ErrNotExist) {
		return compiled(p), nil
	}
	if err != nil {
		return nil, fmt.Errorf("read where %s comes from: %w", p.label(), err)
	}

	var all Origins
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("%s is damaged (%w): remove %s, then run `lab build`", filepath.Join(dir, originFile), err, dir)
	}
	return all, nil
}

func writeOrigins(dir string, all Origins) error {
	raw, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("note where a program comes from: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, originFile), append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("note where a program comes from: %w", err)
	}
	return nil
}
