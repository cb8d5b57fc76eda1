package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// signalProcesses signals those processes of this PID namespace, those of pods
// included, that were started with these words: the last part of the program's
// path, and the arguments that follow. If pod is given, only those of pods whose
// names begin so; if one is, the one with the lowest id.
func signalProcesses(name string, one bool, pod string, words []string) error {
	sig := unix.SignalNum("SIG" + name)
	if sig == 0 {
		return fmt.Errorf("there is no signal SIG%s", name)
	}
	pids, err := processes(pod, words)
	if err != nil {
		return err
	}
	if len(pids) == 0 {
		return fmt.Errorf("no process was started as %q here", strings.Join(words, " "))
	}
	if one {
		pids = pids[:1]
	}

	var errs []error
	for _, pid := range pids {
		// One that has ended meanwhile is as dead as it was to be.
		if err := unix.Kill(pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("signal process %d: %w", pid, err))
		}
	}
	fmt.Printf("%d signalled\n", len(pids))
	return errors.Join(errs...)
}

// processes are the ids of the processes that were started with these words, in a
// pod of that name, in order.
func processes(pod string, words []string) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}

	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		raw, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil || !startedWith(string(raw), words) {
			continue
		}
		env, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err == nil && inPod(string(env), pod) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// startedWith reports whether a command line, its words ended by zeros, begins
// with these.
func startedWith(cmdline string, words []string) bool {
	got := strings.Split(cmdline, "\x00")
	got[0] = filepath.Base(got[0])
	return len(got) >= len(words) && slices.Equal(got[:len(words)], words)
}

// inPod reports whether an environment, its variables ended by zeros, is that of a
// pod whose name begins so. The host name of a pod is its name.
func inPod(environ, pod string) bool {
	if pod == "" {
		return true
	}
	for v := range strings.SplitSeq(environ, "\x00") {
		if strings.HasPrefix(v, "HOSTNAME="+pod) {
			return true
		}
	}
	return false
}
