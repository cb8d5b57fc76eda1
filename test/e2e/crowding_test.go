//go:build e2e

package e2e

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// crowding tells how many times longer a computation takes now than it would on
// an idle machine: the time that passes for each second of processor time that
// this thread gets, 1 or more. It computes for a tenth of a second.
func crowding() float64 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	const sample = 100 * time.Millisecond
	started, base := time.Now(), threadTime()
	for threadTime()-base < sample {
		for n, sum := 0, 1; n < 1e5; n++ { // no system call each time
			sum = sum*31 + n
			runtime.KeepAlive(sum)
		}
	}
	return max(1, time.Since(started).Seconds()/(threadTime()-base).Seconds())
}

// threadTime is the processor time that the calling thread has had.
func threadTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		panic(err) // it has no errors but of its arguments
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
