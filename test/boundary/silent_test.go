package boundary

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/model"
)

// TestSilentStrangersDoNotStay: a sidecar that demands mutual TLS waits for a
// ClientHello, once for ever: two thousand connections that said nothing held
// two thousand descriptors for as long as their owner liked.
func TestSilentStrangersDoNotStay(t *testing.T) {
	t.Parallel()
	const (
		crowd = 100
		// stay is longer than the proxy waits for a first byte, and than a
		// busy machine adds.
		stay = 40 * time.Second
	)
	w := newWorld(t, true)
	w.set(model.MTLSStrict)
	var silent []net.Conn
	for range crowd {
		c, err := net.DialTimeout("tcp", w.sidecarAddr, patience)
		must(t, err)
		defer c.Close()
		silent = append(silent, c)
	}
	deadline := time.Now().Add(stay)
	open := 0
	for _, c := range silent {
		_ = c.SetReadDeadline(deadline)
		var timeout net.Error
		_, err := io.Copy(io.Discard, c)
		if errors.As(err, &timeout) && timeout.Timeout() {
			open++
		}
	}
	if open > 0 {
		t.Errorf("of %d connections that never sent a byte, %d are open after %s", crowd, open, stay)
	}
	if n := w.app.reached.Load(); n != 0 {
		t.Errorf("%d of them got to the application", n)
	}
}
