// Package preflight finds out, before anything is started, whether this
// machine can run a lab, and installs the Debian packages that are missing.
package preflight

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
)

// need is a program and the Debian package that brings it.
type need struct {
	program string
	pkg     string
}

// needs lists what a node takes from the host.
func needs() []need {
	const cni = "/usr/lib/cni/"
	return []need{
		{"runc", "runc"},
		{"nft", "nftables"},
		{"conntrack", "conntrack"},
		{"ip", "iproute2"},
		{"iptables", "iptables"},
		{"ethtool", "ethtool"},
		{"socat", "socat"},
		{"nsenter", "util-linux"},
		{"mount", "mount"},
		{cni + "ptp", "containernetworking-plugins"},
		{cni + "host-local", "containernetworking-plugins"},
		{cni + "loopback", "containernetworking-plugins"},
		{cni + "portmap", "containernetworking-plugins"},
	}
}

// sampleNeeds are the packages whose files go into the sample images.
func sampleNeeds() []need {
	return []need{{"/bin/busybox", "busybox-static"}, {"curl", "curl"}, {"/etc/ssl/certs/ca-certificates.crt", "ca-certificates"}}
}

// Finder tells whether a program (a name, or an absolute path) is there.
type Finder func(program string) bool

// Lookup finds programs on this machine. It knows /usr/sbin and /sbin even
// where PATH lacks them, as the nodes do.
func Lookup(program string) bool {
	if strings.HasPrefix(program, "/") {
		_, err := os.Stat(program)
		return err == nil
	}
	if _, err := exec.LookPath(program); err == nil {
		return true
	}

	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if _, err := os.Stat(dir + program); err == nil {
			return true
		}
	}
	return false
}

// Missing lists the Debian packages that a lab needs and that are not there.
func Missing(has Finder) []string { return missing(needs(), has) }

// MissingForSamples lists those that only the sample images need.
func MissingForSamples(has Finder) []string { return missing(sampleNeeds(), has) }

func missing(all []need, has Finder) []string {
	var pkgs []string
	for _, n := range all {
		if !has(n.program) && !slices.Contains(pkgs, n.pkg) {
			pkgs = append(pkgs, n.pkg)
		}
	}
	return pkgs
}

// Check reports, in one line, why a lab cannot run here.
func Check(root bool, has Finder) error {
	if runtime.GOOS != "linux" {
		return errors.New("a lab runs on Linux alone: use clusters that you have")
	}
	if !root {
		return errors.New("a lab makes namespaces and mounts, which takes root: run it with sudo")
	}
	return Packages(Missing(has))
}

// Packages turns a list of missing packages into an error, nil for none.
func Packages(missing []string) error {
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("packages are missing: run `apt-get install -y %s`, or `lab deps --install`", strings.Join(missing, " "))
}

// Install installs Debian packages, in the given environment; what apt says goes
// to out.
func Install(ctx context.Context, environ, pkgs []string, out io.Writer) error {
	if len(pkgs) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("no apt-get here: install the equivalents of %s yourself", strings.Join(pkgs, " "))
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("installing packages takes root: run `sudo apt-get install -y %s`", strings.Join(pkgs, " "))
	}

	install := append([]string{"install", "-y", "--no-install-recommends"}, pkgs...)
	if apt(ctx, environ, out, install...) == nil {
		return nil
	}

	// Perhaps the package lists are missing or old.
	if err := apt(ctx, environ, out, "update"); err != nil {
		return err
	}
	return apt(ctx, environ, out, install...)
}

func apt(ctx context.Context, environ []string, out io.Writer, args ...string) error {
	// A fresh machine installs its own updates first and holds the lock.
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-o", "DPkg::Lock::Timeout=120"}, args...)...)
	cmd.Env = append(slices.Clone(environ), "DEBIAN_FRONTEND=noninteractive")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("apt-get %s: %w", strings.Join(args, " "), err)
	}
	return nil
}
