// Package forward carries TCP connections from a listener to a dialled
// address. It neither chooses addresses nor looks at what it carries.
package forward

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Dial opens the far connection.
type Dial func(ctx context.Context) (net.Conn, error)

// acceptPause is the wait after a failed accept, for example when the process
// has no descriptor left.
const acceptPause = 100 * time.Millisecond

// Serve accepts connections until ctx ends, then closes the listener and every
// connection, and returns when all are done.
func Serve(ctx context.Context, l net.Listener, dial Dial, log *slog.Logger) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()

	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}

		if err != nil {
			log.Warn("accept failed", "listener", l.Addr(), "error", err)
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
			continue
		}

		wg.Go(func() {
			if err := carry(ctx, conn, dial); err != nil {
				log.Debug("connection not carried", "listener", l.Addr(), "error", err)
			}
		})
	}
}

// carry joins near with a new far connection until both directions have ended.
func carry(ctx context.Context, near net.Conn, dial Dial) error {
	defer near.Close()
	far, err := dial(ctx)
	if err != nil {
		return err
	}
	defer far.Close()

	stop := context.AfterFunc(ctx, func() {
		near.Close()
		far.Close()
	})
	defer stop()

	var wg sync.WaitGroup
	wg.Go(func() { copyHalf(far, near) })
	copyHalf(near, far)
	wg.Wait()
	return nil
}

// copyHalf copies one direction and passes its end on: a clean end as a half
// close, a failure as the end of both directions.
func copyHalf(dst, src net.Conn) {
	_, err := io.Copy(dst, src)
	half, ok := dst.(interface{ CloseWrite() error })
	if err != nil || !ok {
		dst.Close()
		src.Close()
		return
	}
	if half.CloseWrite() != nil {
		dst.Close()
	}
}
