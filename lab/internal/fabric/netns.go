package fabric

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Within runs fn on a thread that has entered the network namespace ns.
// Sockets that fn makes belong to ns for good, whoever uses them later; fn
// must not start goroutines that make sockets.
func Within(ns *os.File, fn func() error) error {
	result := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, so that none
		// goes back to work in the wrong namespace.
		runtime.LockOSThread()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("enter a network namespace: %w", err)
			return
		}
		result <- fn()
	}()
	return <-result
}
