package httpproxy

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/http1"
)

// recallTime bounds the wait for the rest of a body that is to be sent again.
const recallTime = 10 * time.Second

// keeper passes a request on to an endpoint and keeps the first maxReplay bytes of it, head included, so that it can
// be sent to another. One goroutine writes; another one detaches.
type keeper struct {
	bulk *http1.BulkPool

	mu       sync.Mutex // guards what follows
	conn     net.Conn   // nil once detached
	mirrors  []*mirror  // get what is written, too
	kept     []byte
	large    *[http1.BulkSize]byte // kept's storage beyond http1.IdleSize
	small    []byte                // and what it was before
	overflow bool                  // kept does not hold all
}

var errTooLong = errors.New("the request is too long to be sent again")

// begin keeps head, which was sent already, to mirrors as well, and passes on what follows it.
func (k *keeper) begin(conn net.Conn, bulk *http1.BulkPool, head []byte, mirrors []*mirror) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.conn, k.bulk, k.mirrors = conn, bulk, mirrors
	k.keepLocked(head)
}

// keepLocked keeps p too, as long as all fits.
func (k *keeper) keepLocked(p []byte) {
	n := len(k.kept) + len(p)
	switch {
	case k.overflow:
		return
	case n > maxReplay:
		k.overflow = true
		k.giveBackLocked()
		return
	case n > http1.IdleSize && k.large == nil:
		k.large, k.small = k.bulk.Get(), k.kept
		k.kept = append(k.large[:0], k.kept...)
	}
	k.kept = append(k.kept, p...)
}

func (k *keeper) giveBackLocked() {
	k.kept = k.kept[:0]
	if k.large != nil {
		k.bulk.Put(k.large)
		k.kept, k.large, k.small = k.small[:0], nil, nil
	}
}

// Write implements io.Writer. As long as all is kept, an endpoint that takes nothing is no error: the reader of its
// response finds out, and decides.
func (k *keeper) Write(p []byte) (int, error) {
	k.mu.Lock()
	before := k.overflow
	k.keepLocked(p)
	conn, lost, mirrors := k.conn, k.overflow, k.mirrors
	k.mu.Unlock()

	for _, m := range mirrors {
		m.pass(p)
	}

	// Up to here it can go to another endpoint, and all of it fits into buffers on the way; from here on it waits for
	// the application to read.
	if c, ok := conn.(*h1conn); ok && lost && !before {
		c.socket.endure()
	}
	switch {
	case conn == nil && lost:
		return 0, errTooLong
	case conn == nil:
		return len(p), nil
	}
	n, err := conn.Write(p)
	if err == nil || lost {
		return n, err
	}
	return len(p), nil
}

// detach gives the endpoint up; what is written from now on is only kept.
func (k *keeper) detach() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.conn = nil
}

// complete reports whether nothing is lost so far.
func (k *keeper) complete() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.overflow
}

// whole returns what was written, unless that was too long.
func (k *keeper) whole() ([]byte, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.kept, !k.overflow
}

// drop forgets the request.
func (k *keeper) drop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.conn, k.overflow, k.mirrors = nil, false, nil
	k.giveBackLocked()
}
