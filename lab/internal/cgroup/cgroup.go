// Package cgroup makes and removes the cgroups that hold a lab's pods, in the
// unified hierarchy or in each hierarchy of version 1. It sets no limits and
// moves no processes.
package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Mounts lists the mount points of cgroup hierarchies in the text of a
// mountinfo file (proc(5)).
func Mounts(mountinfo string) (points []string, unified bool) {
	for line := range strings.Lines(mountinfo) {
		before, after, found := strings.Cut(line, " - ")
		fields, tail := strings.Fields(before), strings.Fields(after)
		if !found || len(fields) < 5 || len(tail) < 1 {
			continue
		}
		switch tail[0] {
		case "cgroup":
			points = append(points, fields[4])
		case "cgroup2":
			points = append(points, fields[4])
			unified = unified || fields[4] == "/sys/fs/cgroup"
		}
	}
	return points, unified
}

// hierarchies reads the mount points from the running system.
func hierarchies() (points []string, unified bool, err error) {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, false, fmt.Errorf("look for cgroup hierarchies: %w", err)
	}
	points, unified = Mounts(string(raw))
	if len(points) == 0 {
		return nil, false, errors.New("no cgroup hierarchy is mounted: mount one at /sys/fs/cgroup")
	}
	return points, unified, nil
}

// Create makes the cgroup of that path in every hierarchy.
func Create(path string) error {
	points, unified, err := hierarchies()
	if err != nil {
		return err
	}

	for _, point := range points {
		if err := os.MkdirAll(filepath.Join(point, path), 0o755); err != nil {
			return fmt.Errorf("make cgroup %s: %w", path, err)
		}
		if unified && point == "/sys/fs/cgroup" {
			delegate(point, path)
		}
	}
	return nil
}

// delegate turns on the controllers that a kubelet wants from the root down to
// path. A controller that the host keeps from us is the kubelet's to name.
func delegate(point, path string) {
	dir := point
	for _, part := range strings.Split(strings.Trim(path, "/"), "/") {
		for _, c := range []string{"cpuset", "cpu", "io", "memory", "pids"} {
			// Best effort: see above.
			_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0o644)
		}
		dir = filepath.Join(dir, part)
	}
	for _, c := range []string{"cpuset", "cpu", "io", "memory", "pids"} {
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0o644)
	}
}

// Remove removes the cgroup of that path and all below it from every
// hierarchy. Its processes must be ending; it waits for them until ctx ends.
func Remove(ctx context.Context, path string) error {
	points, _, err := hierarchies()
	if err != nil {
		return err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()

	for _, point := range points {
		for {
			err := removeTree(filepath.Join(point, path))
			if err == nil {
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return fmt.Errorf("remove cgroup %s: %w%s", path, err, holders(filepath.Join(point, path)))
			}
		}
	}

	return nil
}

// holders names the processes that keep a cgroup, for an error.
func holders(root string) string {
	var pids []string

	// What cannot be read is left out: the error stands without it.
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			raw, _ := os.ReadFile(filepath.Join(path, "cgroup.procs"))
			pids = append(pids, strings.Fields(string(raw))...)
		}
		return nil
	})

	if len(pids) == 0 {
		return ""
	}
	return fmt.Sprintf(": processes %s are still in it: they were killed and do not end; run the command again when they have", strings.Join(pids, ", "))
}

// RemoveIfEmpty removes the cgroup of that path where nothing is left in it.
func RemoveIfEmpty(path string) error {
	points, _, err := hierarchies()
	if err != nil {
		return err
	}
	for _, point := range points {
		// A cgroup with another lab in it stays.
		_ = os.Remove(filepath.Join(point, path))
	}
	return nil
}

// removeTree removes the directories of a cgroup, the deepest first; its files
// go with them.
func removeTree(root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		return err
	}

	for _, dir := range slices.Backward(dirs) {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
