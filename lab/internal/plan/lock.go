package plan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ErrLocked says that another process holds the lock.
var ErrLocked = errors.New("locked by another process")

const (
	// lockPoll is how often a held lock is tried again: flock(2) itself cannot
	// be given up, so that a command waiting in it would be deaf to Ctrl-C.
	lockPoll = 100 * time.Millisecond
	// lockReminder is how often a waiter says that it still waits.
	lockReminder = 30 * time.Second
)

// Lock takes an exclusive lock on a file, made when missing, and waits for its
// holder until ctx ends. The lock ends with the returned function or with the
// process. While it waits, it calls waiting, at once and then every 30 seconds,
// with the time waited so far.
func Lock(ctx context.Context, path string, waiting func(time.Duration)) (unlock func(), err error) {
	began := time.Now()
	var reminded time.Time
	for {
		unlock, err := TryLock(path)
		if !errors.Is(err, ErrLocked) {
			return unlock, err
		}
		if time.Since(reminded) >= lockReminder {
			waiting(time.Since(began))
			reminded = time.Now()
		}
		select {
		case <-time.After(lockPoll):
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the lock %s: %w", path, ctx.Err())
		}
	}
}

// TryLock is Lock without waiting: it returns ErrLocked instead.
func TryLock(path string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	for {
		f, err := lockOnce(path)
		if err != nil {
			return nil, err
		}
		if isAt(f, path) {
			return func() { f.Close() }, nil
		}
		// Whoever held the lock has removed its file: lock the new one.
		f.Close()
	}
}

// isAt reports whether f still is the file at path.
func isAt(f *os.File, path string) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(mine, there)
}

func lockOnce(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}

	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}

	if err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrLocked
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// HoldPID takes a lock that tells its holder: whoever calls Holder learns
// this process's id, as seen from the caller's own PID namespace. It is held
// until the process ends; path must not be opened again by this process.
func HoldPID(path string) error {
	// A bare descriptor, never closed: closing it would drop the lock, and so
	// would the finalizer of an os.File.
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return fmt.Errorf("lock %s: %w", path, err)
	}

	err = unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return ErrLocked
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", path, err)
	}
	return nil
}

// Holder returns the process that holds path through HoldPID, or 0.
func Holder(path string) (pid int, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look at lock %s: %w", path, err)
	}
	defer f.Close()

	lk := unix.Flock_t{Type: unix.F_RDLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lk); err != nil {
		return 0, fmt.Errorf("look at lock %s: %w", path, err)
	}
	if lk.Type == unix.F_UNLCK {
		return 0, nil
	}
	return int(lk.Pid), nil
}
