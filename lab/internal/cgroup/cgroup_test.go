package cgroup

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestMounts(t *testing.T) {
	for _, c := range []struct {
		name, text string
		points     []string
		unified    bool
	}{
		{"version 1 beside an empty version 2",
			"30 24 0:26 / /sys/fs/cgroup rw shared:9 - tmpfs tmpfs rw,mode=755\n" +
				"31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime shared:10 - cgroup cgroup rw,cpu\n" +
				"32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			[]string{"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/unified"}, false},
		{"version 2", "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 master:3 - cgroup2 cgroup2 rw\n",
			[]string{"/sys/fs/cgroup"}, true},
		{"none", "22 1 8:1 / / rw - ext4 /dev/vda rw\nnonsense\n", nil, false},
	} {
		points, unified := Mounts(c.text)
		if !slices.Equal(points, c.points) || unified != c.unified {
			t.Errorf("%s: got %v, %v", c.name, points, unified)
		}
	}
}

func TestRemoveTreeGoesDeepestFirst(t *testing.T) {
	root := filepath.Join(t.TempDir(), "lab")
	if err := os.MkdirAll(filepath.Join(root, "cluster-1/pod/container"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := removeTree(root); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(root); !os.IsNotExist(err) {
		t.Fatalf("still there: %v", err)
	}
	if err := removeTree(root); err != nil {
		t.Fatalf("removing nothing: %v", err)
	}
}
