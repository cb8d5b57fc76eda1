package release

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
)

// extract writes the named files of a .tar.gz into the directory out, as
// commands named by the last part of their path, and returns these. What the
// archive lacks is left out; everything else in it is passed over, so that no
// name in it can lead out of the directory.
func extract(archive, out string, members []string) ([]string, error) {
	f, err := os.Open(archive)
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	defer f.Close()

	unzipped, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", filepath.Base(archive), err)
	}

	var found []string
	for files := tar.NewReader(unzipped); ; {
		head, err := files.Next()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, fmt.Errorf("unpack %s: %w", filepath.Base(archive), err)
		}
		if head.Typeflag != tar.TypeReg || !slices.Contains(members, path.Clean(head.Name)) {
			continue
		}

		command := path.Base(head.Name)
		if err := writeCommand(filepath.Join(out, command), files); err != nil {
			return nil, err
		}
		found = append(found, command)
	}
}

func writeCommand(file string, content io.Reader) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	_, err = io.Copy(f, content)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("unpack %s: %w", filepath.Base(file), err)
	}
	return nil
}
