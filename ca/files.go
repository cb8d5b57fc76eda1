package ca

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// FileRootKey is the root's key beside FileRoot. It belongs on no cluster.
const FileRootKey = "root-key.pem"

// ExistsError names files that would have been overwritten.
type ExistsError struct{ Files []string }

func (e *ExistsError) Error() string {
	return "already there: " + strings.Join(e.Files, ", ")
}

// ReadRoot reads root-cert.pem and root-key.pem from a directory.
func ReadRoot(dir string, now time.Time) (Pair, error) {
	certPEM, err := os.ReadFile(filepath.Join(dir, FileRoot))
	if err != nil {
		return Pair{}, err
	}

	keyPEM, err := os.ReadFile(filepath.Join(dir, FileRootKey))
	if err != nil {
		return Pair{}, err
	}

	p, err := ParsePair(certPEM, keyPEM, now)
	if err != nil {
		return Pair{}, fmt.Errorf("root in %s: %w", dir, err)
	}
	return p, nil
}

// WriteFiles writes files into a directory, which it makes, and tells their
// paths. Keys are readable by the owner alone. Files that are there with the
// same bytes are left; with other bytes they are overwritten only by force,
// and else nothing is written and the error is an *ExistsError.
func WriteFiles(dir string, files map[string][]byte, force bool) ([]string, error) {
	names := slices.Sorted(maps.Keys(files))
	var exist []string
	for _, n := range names {
		have, err := os.ReadFile(filepath.Join(dir, n))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(have, files[n]) {
			exist = append(exist, filepath.Join(dir, n))
		}
	}

	if len(exist) > 0 && !force {
		return nil, &ExistsError{exist}
	}

	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}

	var written []string
	for _, n := range names {
		path := filepath.Join(dir, n)
		if err := writeFile(path, files[n], fileMode(n)); err != nil {
			return written, err
		}
		written = append(written, path)
	}
	return written, nil
}

func fileMode(name string) os.FileMode {
	if strings.HasSuffix(name, "-key.pem") {
		return 0o600
	}
	return 0o644
}

// writeFile writes beside the file and renames, so that a half-written key is
// never seen and the mode is right from the start.
func writeFile(path string, data []byte, mode os.FileMode) error {
	tmp := path + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(tmp, data, mode); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
