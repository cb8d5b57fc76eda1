package clusters

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/test/rig/apiserver"
)

// cpu is the processor time that this process has used.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestCrowd: of 50 clusters half are gone, some refusing, some hanging. The others
// are read as if there were none of those, and hardly any processor time goes
// into waiting for them.
func TestCrowd(t *testing.T) {
	w := newWorld(t)
	const half = 25
	var live []*apiserver.Server
	id := func(kind string, i int) string { return fmt.Sprintf("%s-%d", kind, i) }
	for i := range half {
		s := w.remote()
		live = append(live, s)
		w.join("s-"+id("live", i), id("live", i), s.Kubeconfig(""))
		dead := w.remote()
		if i%2 == 0 {
			dead.Refuse()
		} else {
			dead.Hang()
		}
		w.join("s-"+id("dead", i), id("dead", i), dead.Kubeconfig(""))
	}

	began := time.Now()
	w.eventually("the live ones are read", 20*time.Second, func() bool {
		for i := range half {
			if w.endpoints(model.ClusterID(id("live", i))) == "" {
				return false
			}
		}
		return true
	})
	read := time.Since(began)
	w.eventually("the dead ones are known to be gone", 10*time.Second, func() bool {
		for i := range half {
			if w.state(model.ClusterID(id("dead", i))).Status != Stale {
				return false
			}
		}
		return true
	})

	// Some time for the waits between attempts to grow.
	time.Sleep(3 * time.Second)
	before, goroutines := cpu(t), runtime.NumGoroutine()
	const watched = 5 * time.Second
	time.Sleep(watched)
	used := cpu(t) - before
	more := runtime.NumGoroutine() - goroutines
	t.Logf("25 read in %s; with 25 dead, %s of processor time in %s (API servers among it), %d goroutines, %+d meanwhile",
		read.Round(time.Millisecond), used.Round(time.Millisecond), watched, goroutines, more)
	// With the race detector and on busy machines it is several times the
	// 0.2 s that it is otherwise; busy waiting would be 5 s and more.
	if used > watched/3 {
		t.Errorf("%s of processor time went into %s in which nothing happened", used, watched)
	}
	if more > 100 {
		t.Errorf("%d goroutines more within %s", more, watched)
	}

	began = time.Now()
	if err := live[7].Apply(web("10.1.0.1", "10.1.0.2")...); err != nil {
		t.Fatal(err)
	}
	w.eventually("a change of a live one", soon, func() bool { return w.endpoints("live-7") == "10.1.0.1 10.1.0.2" })
	t.Logf("a change is known after %s", time.Since(began).Round(time.Millisecond))
}
