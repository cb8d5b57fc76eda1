package main

import (
	"testing"
	"testing/fstest"
)

func TestConnectionLimit(t *testing.T) {
	const meminfo = "MemTotal:       4194304 kB\nMemFree: 1 kB\n"
	for _, tt := range []struct {
		what  string
		files map[string]string
		set   string
		want  int64
	}{
		{"as it was set", nil, "7", 7},
		{"no limit", nil, "0", 0},
		{"by the container's limit", map[string]string{"sys/fs/cgroup/memory.max": "33554432\n", "proc/meminfo": meminfo}, "", 512},
		{"by version 1", map[string]string{"sys/fs/cgroup/memory/memory.limit_in_bytes": "33554432\n"}, "", 512},
		{"never so few that nothing works", map[string]string{"sys/fs/cgroup/memory.max": "1048576\n"}, "", 64},
	} {
		root := fstest.MapFS{}
		for name, text := range tt.files {
			root[name] = &fstest.MapFile{Data: []byte(text)}
		}
		s := settings{maxConnections: tt.set}
		if got, err := s.connectionLimit(root); err != nil || got != tt.want {
			t.Errorf("%s: got %d, %v, want %d", tt.what, got, err, tt.want)
		}
	}
	for what, files := range map[string]fstest.MapFS{
		"no limit of version 2": {"sys/fs/cgroup/memory.max": {Data: []byte("max\n")}, "proc/meminfo": {Data: []byte(meminfo)}},
		"no limit of version 1": {"sys/fs/cgroup/memory/memory.limit_in_bytes": {Data: []byte("9223372036854771712\n")}, "proc/meminfo": {Data: []byte(meminfo)}},
	} {
		if got := memoryLimit(files); got != 1<<30 {
			t.Errorf("%s: %d bytes, want a quarter of the machine's", what, got)
		}
	}
	if got := memoryLimit(fstest.MapFS{}); got != 256<<20 {
		t.Errorf("nothing can be read: %d bytes, want 256 MiB", got)
	}
	for _, bad := range []string{"-1", "many"} {
		if _, err := (&settings{maxConnections: bad}).connectionLimit(fstest.MapFS{}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
