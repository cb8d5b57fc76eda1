//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"testing"
)

// TestLabLeavesNothing compares the machine before a lab and after its end:
// links, mounts, network namespaces, processes, nftables rules, cgroups.
func TestLabLeavesNothing(t *testing.T) {
	if os.Getenv("ISTHMUS_E2E_KEEP") != "" {
		t.Skip("ISTHMUS_E2E_KEEP is set: the lab stays up")
	}
	root := repo(t)
	host := shell{dir: root, env: []string{"PATH=" + filepath.Join(root, "bin") + ":" + os.Getenv("PATH")}}
	const state = `ip -o link | cut -d: -f2 | sort; ip -o addr | awk '{print $2,$4}' | sort; ip route
findmnt -rn -o TARGET | sort; ip netns; nft list ruleset
ps -eo args= | grep -E '[/ ]lab (agent|machine)|kube-apiserver|kubelet|containerd|etcd' | grep -v grep | sort || true
find /sys/fs/cgroup -type d -name '*isthmus-lab*e2e2*' 2>/dev/null | sort`
	host.must(t, "lab --name e2e2 down")
	before := host.must(t, state)
	host.must(t, "lab --name e2e2 up --clusters 1")
	host.must(t, "lab --name e2e2 status")
	host.must(t, "lab --name e2e2 down")
	if after := host.must(t, state); after != before {
		t.Errorf("the lab left something behind.\nbefore:\n%s\nafter:\n%s", before, after)
	}
}
