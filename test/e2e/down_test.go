//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// hostState is what a lab could leave on its host, other labs' processes aside.
const hostState = `ip -o link | cut -d: -f2 | sort; ip -o addr | awk '{print $2,$4}' | sort; ip route; ip rule
findmnt -rn -o TARGET | sort; ip netns; nft list ruleset
find /sys/fs/cgroup -type d -name '*e2e2*' 2>/dev/null | sort || true
find /var/lib/isthmus-lab /run/isthmus-lab -maxdepth 1 -name e2e2 2>/dev/null | sort || true`

// TestLabLeavesNothing compares the machine before a lab and after its end:
// links, addresses, routes, mounts, network namespaces, nftables rules,
// cgroups, files; and no process is left in a namespace that the lab made.
// It does so twice: after `lab down`, and after the lab's agent was killed.
func TestLabLeavesNothing(t *testing.T) {
	root := repo(t)
	host := shell{dir: root, env: []string{"PATH=" + filepath.Join(root, "bin") + ":" + os.Getenv("PATH")}}
	for _, kill := range []bool{false, true} {
		host.must(t, "lab --name e2e2 down")
		before := host.must(t, hostState)
		host.must(t, "lab --name e2e2 up --clusters 1")
		agent := findAgent(t, "e2e2")
		spaces := namespacesBelow(t, agent)
		if len(spaces) < 5 {
			t.Fatalf("only %d namespaces found below the lab's agent: the test would show nothing", len(spaces))
		}
		if kill {
			process, err := os.FindProcess(agent)
			if err != nil {
				t.Fatal(err)
			}
			if err := process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		host.must(t, "lab --name e2e2 down")
		if after := host.must(t, hostState); after != before {
			t.Errorf("the lab left something behind (agent killed: %v).\nbefore:\n%s\nafter:\n%s", kill, before, after)
		}
		// A killed process is still there while the kernel takes it apart.
		left := survivors(t, spaces)
		for deadline := time.Now().Add(10 * time.Second); len(left) > 0 && time.Now().Before(deadline); left = survivors(t, spaces) {
			time.Sleep(100 * time.Millisecond)
		}
		for _, what := range left {
			t.Errorf("it lives on: %s", what)
		}
	}
}

// survivors describes the processes that are in one of the namespaces.
func survivors(t *testing.T, spaces map[string]bool) []string {
	t.Helper()
	var left []string
	for _, pid := range processes(t) {
		for _, ns := range namespacesOf(pid) {
			if spaces[ns] {
				left = append(left, fmt.Sprintf("process %d (%s) in %s", pid, commandLine(pid), ns))
			}
		}
	}
	return left
}

// processes lists the ids of all processes.
func processes(t *testing.T) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func commandLine(pid int) string {
	raw, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	return strings.TrimSpace(strings.ReplaceAll(string(raw), "\x00", " "))
}

// findAgent finds the process that a lab of that name hangs on.
func findAgent(t *testing.T, lab string) int {
	t.Helper()
	for _, pid := range processes(t) {
		if cmd := commandLine(pid); strings.Contains(cmd, "lab agent") && strings.Contains(cmd, "/"+lab) {
			return pid
		}
	}
	t.Fatalf("no agent of lab %s", lab)
	return 0
}

// namespacesOf names the namespaces that a process is in, "net:[4026531840]".
func namespacesOf(pid int) []string {
	var names []string
	for _, kind := range []string{"net", "mnt", "pid", "uts", "ipc"} {
		if name, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "ns", kind)); err == nil {
			names = append(names, name)
		}
	}
	return names
}

// namespacesBelow gathers the namespaces of a process and its descendants,
// other than those of this test.
func namespacesBelow(t *testing.T, ancestor int) map[string]bool {
	t.Helper()
	parents := map[int]int{}
	for _, pid := range processes(t) {
		raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
		if len(fields) > 1 {
			parents[pid], _ = strconv.Atoi(fields[1])
		}
	}
	spaces := map[string]bool{}
	for pid := range parents {
		for p := pid; p > 1; p = parents[p] {
			if p == ancestor {
				for _, ns := range namespacesOf(pid) {
					spaces[ns] = true
				}
				break
			}
		}
	}
	for _, ns := range namespacesOf(os.Getpid()) {
		delete(spaces, ns)
	}
	return spaces
}
