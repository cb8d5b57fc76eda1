package plan_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/lab/internal/plan"
)

// holderEnv tells a child of the test binary which file to hold.
const holderEnv = "LAB_TEST_HOLD"

func TestMain(m *testing.M) {
	if path := os.Getenv(holderEnv); path != "" {
		if err := plan.HoldPID(path); err != nil {
			os.Exit(3)
		}
		os.Stdout.WriteString("held\n")
		bufio.NewReader(os.Stdin).ReadByte() // until the parent closes it
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestHolderIsTheProcessThatHolds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if pid, err := plan.Holder(path); pid != 0 || err != nil {
		t.Fatalf("no file: holder %d, %v", pid, err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(exe)
	child.Env = append(os.Environ(), holderEnv+"="+path)
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("child says %q", line)
	}
	if pid, err := plan.Holder(path); pid != child.Process.Pid || err != nil {
		t.Errorf("holder %d, %v; want %d", pid, err, child.Process.Pid)
	}
	if err := plan.HoldPID(path); !errors.Is(err, plan.ErrLocked) {
		t.Errorf("holding a held file: %v", err)
	}
	in.Close()
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	if pid, err := plan.Holder(path); pid != 0 || err != nil {
		t.Errorf("after its end: holder %d, %v", pid, err)
	}
}

func TestLockIsOnThePresentFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := plan.Lock(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plan.TryLock(path); !errors.Is(err, plan.ErrLocked) {
		t.Fatalf("locked twice: %v", err)
	}
	told, waiting := make(chan struct{}), make(chan func())
	go func() {
		u, err := plan.Lock(t.Context(), path, func(time.Duration) { close(told) })
		if err != nil {
			t.Error(err)
		}
		waiting <- u
	}()
	<-told
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	unlock()
	second := <-waiting
	if _, err := plan.TryLock(path); !errors.Is(err, plan.ErrLocked) {
		t.Fatalf("the lock after a removal is not on the file that others see: %v", err)
	}
	second()
}
