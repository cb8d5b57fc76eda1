package machine

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/lab/internal/nodeconf"
)

// bind is a host directory and the place where the node sees it.
type bind struct {
	source, target string
	fd             int
}

// layOut builds the node's view of the file system on top of the host's: /run
// is empty, /var/lib and /var/log are the cluster's own, /proc shows the node's
// processes. The rest, such as Debian's runc, shows through. /sys stays as it
// is, since a fresh one would hide the cgroups.
func layOut(cfg Config) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("part the node's mounts from the host's: %w", err)
	}

	// Pods may ask for mounts to propagate within the node.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share mounts within the node: %w", err)
	}

	binds, err := openBinds(cfg)
	if err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mount the node's /run: %w", err)
	}

	for _, b := range binds {
		if err := b.mount(); err != nil {
			return err
		}
	}

	if err := os.MkdirAll(logDir, 0o755); err != nil {
		return fmt.Errorf("make the components' log directory: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount the node's /proc: %w", err)
	}
	return shadowSysctls()
}

// openBinds opens every directory before the first mount, which may hide it.
func openBinds(cfg Config) ([]bind, error) {
	binds := []bind{
		{source: cfg.Paths.Config(), target: nodeconf.ConfigDir},
		{source: cfg.Paths.VarLib(), target: "/var/lib"},
		{source: cfg.Paths.VarLog(), target: "/var/log"},
	}
	for i, dir := range cfg.Node.Lab.BinDirs {
		binds = append(binds, bind{source: dir, target: fmt.Sprintf("%s/%d", nodeconf.BinDir, i)})
	}

	for i := range binds {
		fd, err := unix.Open(binds[i].source, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", binds[i].source, err)
		}
		binds[i].fd = fd
	}
	return binds, nil
}

func (b bind) mount() error {
	defer unix.Close(b.fd)
	if err := os.MkdirAll(b.target, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", b.target, err)
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", b.fd), b.target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("show %s as %s: %w", b.source, b.target, err)
	}
	return nil
}

// shadowSysctls puts plain files over the settings of the whole kernel that a
// kubelet insists on, so that it finds what it wants and changes nothing that
// belongs to the host.
func shadowSysctls() error {
	wanted := map[string]string{
		"vm/overcommit_memory":      "1",
		"vm/panic_on_oom":           "0",
		"kernel/panic":              "10",
		"kernel/panic_on_oops":      "1",
		"kernel/keys/root_maxkeys":  "1000000",
		"kernel/keys/root_maxbytes": "25000000",
	}

	for name, value := range wanted {
		shadow := filepath.Join("/run/lab/sysctl", name)
		if err := os.MkdirAll(filepath.Dir(shadow), 0o755); err != nil {
			return fmt.Errorf("shadow sysctl %s: %w", name, err)
		}
		if err := os.WriteFile(shadow, []byte(value+"\n"), 0o644); err != nil {
			return fmt.Errorf("shadow sysctl %s: %w", name, err)
		}

		target := "/proc/sys/" + name
		if _, err := os.Stat(target); err != nil {
			continue // a kernel without it
		}
		if err := unix.Mount(shadow, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("shadow sysctl %s: %w", name, err)
		}
	}

	return nil
}
