package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
)

// DefaultStateDir is where a lab keeps its files unless told otherwise; the
// lab's name is appended.
const DefaultStateDir = "/var/lib/isthmus-lab"

// maxSocketPath is what the kernel leaves for the path of a Unix socket.
const maxSocketPath = 107

// Paths are the files of one lab on the host.
type Paths struct {
	// Root is the lab's own directory; `lab down` removes it whole.
	Root string
}

// NewPaths checks that a lab's files can lie under root.
func NewPaths(root string) (Paths, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return Paths{}, fmt.Errorf("state directory %q: %w", root, err)
	}
	p := Paths{Root: abs}
	if len(p.Socket()) > maxSocketPath {
		return Paths{}, fmt.Errorf("state directory %q is too long for a Unix socket in it: give a shorter --state-dir", abs)
	}
	return p, nil
}

// Spec is the file that holds the Lab.
func (p Paths) Spec() string { return filepath.Join(p.Root, "lab.json") }

// Kubeconfig is the file with one context per cluster.
func (p Paths) Kubeconfig() string { return filepath.Join(p.Root, "kubeconfig") }

// Bin is a directory for the user's PATH: it holds the lab's kubectl.
func (p Paths) Bin() string { return filepath.Join(p.Root, "bin") }

// Socket is where the lab's agent answers.
func (p Paths) Socket() string { return filepath.Join(p.Root, "agent.sock") }

// AgentLock is locked by the agent for as long as it lives.
func (p Paths) AgentLock() string { return filepath.Join(p.Root, "agent.lock") }

// AgentLog receives what the agent logs.
func (p Paths) AgentLog() string { return filepath.Join(p.Root, "agent.log") }

// CommandLock is held by a command that changes the lab. It lies beside the
// lab's directory, so that removing the directory keeps it valid.
func (p Paths) CommandLock() string { return p.Root + ".lock" }

// clusterDir is the name of a cluster's directory.
var clusterDir = regexp.MustCompile(`^cluster-[0-9]+$`)

// Remove removes a lab's files, its description last: until that is gone, what
// is left of an interrupted removal is known for a lab. It reports whether
// there was a lab, and which files it left because no lab makes them: a state
// directory may be any directory that a user names.
func (p Paths) Remove() (found bool, left []string, err error) {
	entries, err := os.ReadDir(p.Root)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil, nil
	}
	if err != nil {
		return false, nil, fmt.Errorf("look at the lab's files: %w", err)
	}

	marks := []string{p.AgentLock(), p.Spec() + newSuffix, p.Spec()}
	own := append([]string{
		p.Kubeconfig(), p.Kubeconfig() + newSuffix, p.Bin(), p.Socket(), p.AgentLog(),
	}, marks...)
	for _, e := range entries {
		file := filepath.Join(p.Root, e.Name())
		switch {
		case slices.Contains(marks, file):
			found = true
		case clusterDir.MatchString(e.Name()) && e.IsDir():
			own = append([]string{file}, own...)
		case !slices.Contains(own, file):
			left = append(left, e.Name())
		}
	}

	if !found {
		return false, left, nil
	}
	for _, file := range own {
		if err := os.RemoveAll(file); err != nil {
			return true, left, fmt.Errorf("remove the lab's files: %w", err)
		}
	}

	if len(left) > 0 {
		return true, left, nil
	}
	if err := os.Remove(p.Root); err != nil {
		return true, nil, fmt.Errorf("remove the lab's directory: %w", err)
	}
	return true, nil, nil
}

// Cluster names the files of one cluster.
func (p Paths) Cluster(c Cluster) ClusterPaths {
	return ClusterPaths{Root: filepath.Join(p.Root, c.Name())}
}

// ClusterPaths are the files of one cluster on the host.
type ClusterPaths struct {
	Root string
}

// Config holds what is generated for the node: certificates, kubeconfigs,
// component configuration. Inside the machine it is seen at nodeconf.ConfigDir.
func (p ClusterPaths) Config() string { return filepath.Join(p.Root, "config") }

// VarLib is the machine's /var/lib: etcd's data, images, volumes.
func (p ClusterPaths) VarLib() string { return filepath.Join(p.Root, "var-lib") }

// VarLog is the machine's /var/log.
func (p ClusterPaths) VarLog() string { return filepath.Join(p.Root, "var-log") }

// MachineLog receives what the machine's first process logs.
func (p ClusterPaths) MachineLog() string { return filepath.Join(p.Root, "machine.log") }

// MachineLock is locked by the machine's first process while it lives.
func (p ClusterPaths) MachineLock() string { return filepath.Join(p.Root, "machine.lock") }

// Load reads the lab that lies under p. It returns fs.ErrNotExist (wrapped)
// when there is none.
func Load(p Paths) (*Lab, error) {
	raw, err := os.ReadFile(p.Spec())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no lab under %s: run `lab up` first (%w)", p.Root, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("read the lab's description: %w", err)
	}

	l := &Lab{}
	if err := json.Unmarshal(raw, l); err != nil {
		return nil, fmt.Errorf("%s is damaged (%w): run `lab down`, then `lab up`", p.Spec(), err)
	}
	if err := l.Validate(); err != nil {
		return nil, fmt.Errorf("%s is damaged (%w): run `lab down`, then `lab up`", p.Spec(), err)
	}
	return l, nil
}

// Save writes the lab's description, whole or not at all.
func Save(p Paths, l *Lab) error {
	raw, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the lab's description: %w", err)
	}
	if err := os.MkdirAll(p.Root, 0o755); err != nil {
		return fmt.Errorf("make the lab's directory: %w", err)
	}
	return WriteFile(p.Spec(), append(raw, '\n'), 0o644)
}

// newSuffix ends the name of a file that is not whole yet.
const newSuffix = ".new"

// WriteFile replaces a file by renaming a complete new one over it.
func WriteFile(path string, data []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	tmp := path + newSuffix
	if err := os.WriteFile(tmp, data, mode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
