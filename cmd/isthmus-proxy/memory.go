package main

import (
	"bufio"
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// perConnection is the memory that is reckoned for a connection, in bytes. One
// that is idle takes a tenth of it; a request head that comes slowly, or an
// HTTP/2 connection with its buffers, takes about as much.
const perConnection = 64 << 10

// filesPerConnection are the descriptors of a connection: its two ends, and at
// times a pipe between them.
const filesPerConnection = 4

// connectionLimit is how many connections may be open at once: what was set,
// else as many as fit in the memory that the proxy may use, and as there are
// descriptors for. Zero is no limit. root holds /sys and /proc.
func (s *settings) connectionLimit(root fs.FS) (int64, error) {
	if s.maxConnections != "" {
		n, err := strconv.ParseInt(s.maxConnections, 10, 64)
		if err != nil || n < 0 {
			return 0, fmt.Errorf("max-connections %q: want a number, 0 for no limit", s.maxConnections)
		}
		return n, nil
	}

	limit := memoryLimit(root) / perConnection
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil && files.Max < math.MaxInt64 {
		// The Go runtime has raised the soft limit to the hard one.
		limit = min(limit, int64(files.Max)/filesPerConnection)
	}
	return max(limit, 64), nil
}

// memoryLimit is how many bytes the proxy may use: its control group's limit,
// which is the container's, else a quarter of the machine's memory, which is
// others' too.
func memoryLimit(root fs.FS) int64 {
	// Version 2, then version 1, where a huge number stands for no limit.
	for _, name := range []string{"sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		text, err := fs.ReadFile(root, name)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n > 0 && n < 1<<50 {
			return n
		}
	}
	return machineMemory(root) / 4
}

// machineMemory reads /proc/meminfo; 1 GiB where that cannot be read.
func machineMemory(root fs.FS) int64 {
	const unknown = 1 << 30
	f, err := root.Open("proc/meminfo")
	if err != nil {
		return unknown
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var kib int64
		if _, err := fmt.Sscanf(lines.Text(), "MemTotal: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	return unknown
}
