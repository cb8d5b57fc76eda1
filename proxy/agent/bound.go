package agent

import (
	"container/list"
	"net"
	"net/http"
	"sync"
	"time"
)

// maxCallers bounds the connections to one of the agent's ports: the kubelet, a
// few scrapers and people with a shell come by.
const maxCallers = 256

// bodyTime is how long a caller may take to send a body. Nothing here reads one,
// but the server does before it takes the next request.
const bodyTime = 10 * time.Second

// newestFirst is a listener that closes its oldest connection when there are
// more than max. Whoever holds many connections must not keep the kubelet from
// asking, as it would if new ones had to wait.
type newestFirst struct {
	net.Listener
	max int

	mu   sync.Mutex
	open *list.List // of *heldConn, the oldest first
}

func newNewestFirst(l net.Listener, most int) *newestFirst {
	return &newestFirst{Listener: l, max: most, open: list.New()}
}

// Accept implements net.Listener.
func (l *newestFirst) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	h := &heldConn{Conn: c, of: l}

	l.mu.Lock()
	var oldest *heldConn
	if l.open.Len() >= l.max {
		oldest = l.open.Front().Value.(*heldConn)
	}
	h.place = l.open.PushBack(h)
	l.mu.Unlock()

	if oldest != nil {
		_ = oldest.Close()
	}
	return h, nil
}

// heldConn is a connection of newestFirst.
type heldConn struct {
	net.Conn
	of    *newestFirst
	place *list.Element
	once  sync.Once
}

// Close implements net.Conn.
func (c *heldConn) Close() error {
	c.once.Do(func() {
		c.of.mu.Lock()
		c.of.open.Remove(c.place)
		c.of.mu.Unlock()
	})
	return c.Conn.Close()
}

// boundBody gives callers that send a body bodyTime for it. Others get no read
// deadline: it would end the handlers that take long, such as a profile.
func boundBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
		}
		next.ServeHTTP(w, r)
	})
}
