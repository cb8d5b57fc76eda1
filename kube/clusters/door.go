package clusters

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"

	"github.com/isthmus-mesh/isthmus/kube"
)

const (
	// dialTime and handshakeTime bound the making of a connection. A server
	// that takes longer is as good as gone.
	dialTime      = 5 * time.Second
	handshakeTime = 5 * time.Second
)

// door is the way to one API server: connections of its own, which no other
// client shares and which close with it; the token, which can be changed while
// requests are under way; and a note of what was answered. client-go would share
// a connection between clients and keep one that hangs for most of a minute.
type door struct {
	host    string
	clients kube.Clients
	http    *http.Client
	inner   http.RoundTripper
	base    *http.Transport
	token   atomic.Pointer[string]
	made    time.Time
	// heardAt is when the server last answered us, nanoseconds since made: a
	// clock that is set must not let a server fall silent.
	heardAt atomic.Int64

	mu      sync.Mutex
	conns   map[net.Conn]struct{} // nil when closed
	failing map[string]string     // what the server refuses: path → status
}

func newDoor(a *access) (*door, error) {
	cfg, err := a.config()
	if err != nil {
		return nil, err
	}
	d := &door{host: cfg.Host, made: time.Now(), conns: map[net.Conn]struct{}{}, failing: map[string]string{}}
	d.setToken(a.token)
	if err := d.build(cfg); err != nil {
		return nil, err
	}
	d.http = &http.Client{Transport: d}
	d.clients, err = kube.NewClientsOver(cfg, d.http)
	return d, err
}

// build makes the transport below the door.
func (d *door) build(cfg *rest.Config) error {
	tc, err := cfg.TransportConfig()
	if err != nil {
		return err
	}
	tls, err := transport.TLSConfigFor(tc)
	if err != nil {
		return err
	}

	d.base = &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		TLSClientConfig:     tls,
		TLSHandshakeTimeout: handshakeTime,
		ForceAttemptHTTP2:   true, // because the TLS configuration is our own
		DialContext:         d.dial,
		IdleConnTimeout:     time.Minute,
	}
	if tc.Proxy != nil {
		d.base.Proxy = tc.Proxy
	}
	d.inner, err = transport.HTTPWrappersForConfig(tc, d.base)
	return err
}

// dial makes a connection that is closed with the door.
func (d *door) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTime, KeepAlive: 15 * time.Second}
	c, err := dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conns == nil {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	out := &doorConn{Conn: c, door: d}
	d.conns[out] = struct{}{}
	return out, nil
}

type doorConn struct {
	net.Conn
	door *door
}

// Close closes the connection and forgets it.
func (c *doorConn) Close() error {
	c.door.mu.Lock()
	delete(c.door.conns, c)
	c.door.mu.Unlock()
	return c.Conn.Close()
}

// hangUp closes all connections, those that hang too. The next request makes a
// new one.
func (d *door) hangUp() {
	d.mu.Lock()
	conns := slices.Collect(maps.Keys(d.conns))
	d.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
	d.base.CloseIdleConnections()
}

// close closes all connections; there are no new ones.
func (d *door) close() {
	d.hangUp()
	d.mu.Lock()
	conns := slices.Collect(maps.Keys(d.conns))
	d.conns = nil
	d.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

// setToken lets the requests from now on have another token.
func (d *door) setToken(token string) { d.token.Store(&token) }

// RoundTrip implements http.RoundTripper.
func (d *door) RoundTrip(r *http.Request) (*http.Response, error) {
	if token := *d.token.Load(); token != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := d.inner.RoundTrip(r)
	if err != nil {
		if r.Context().Err() != nil {
			return nil, err
		}
		// The text alone: client-go's reflectors wait for up to 30 s after
		// ECONNREFUSED, even when they are told to end meanwhile.
		return nil, errors.New(err.Error())
	}

	d.note(r, resp)
	if resp.StatusCode != http.StatusUnauthorized {
		d.heard()
		resp.Body = &heardBody{resp.Body, d}
	}
	return resp, nil
}

// note keeps which lists and watches the server refuses at the moment.
func (d *door) note(r *http.Request, resp *http.Response) {
	// An account of an older version may not read what clusters export, and the
	// API can be taken out of a cluster: its reader says so, and all else is read.
	if r.Method != http.MethodGet || strings.Contains(r.URL.Path, "/apis/"+kube.GroupMultiCluster+"/") {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case resp.StatusCode < 400:
		delete(d.failing, r.URL.Path)
	case resp.StatusCode == http.StatusGone || resp.StatusCode == http.StatusUnprocessableEntity:
		// The one belongs to watches, and is followed by a list; by the
		// other, old servers say that they only know lists.
	default:
		d.failing[r.URL.Path] = resp.Status
	}
}

// trouble says what the server refuses; empty when it refuses nothing.
func (d *door) trouble() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	for _, path := range slices.Sorted(maps.Keys(d.failing)) {
		out = append(out, path+": "+d.failing[path])
	}
	return strings.Join(out, "; ")
}

func (d *door) heard() { d.heardAt.Store(int64(time.Since(d.made))) }

// silence is for how long the server has said nothing.
func (d *door) silence() time.Duration { return time.Since(d.made) - time.Duration(d.heardAt.Load()) }

// heardBody notes that bytes still come: the list of a large cluster may take
// long.
type heardBody struct {
	io.ReadCloser
	door *door
}

// Read reads.
func (b *heardBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.door.heard()
	}
	return n, err
}

// notTaken is the error of credentials that the server does not accept.
type notTaken struct{ status string }

// Error names the status.
func (e notTaken) Error() string {
	return "the API server does not take the credentials: " + e.status
}

// late is the error of a server that takes a connection, and does not answer in
// time.
type late struct{ limit time.Duration }

// Error names the time.
func (e late) Error() string {
	return fmt.Sprintf("the API server has not answered within %s", e.limit)
}

// ping asks for something that costs the server nothing. Any answer will do but
// that it does not know who asks.
func (d *door) ping(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no connection to the API server within %s", limit))
	defer cancel()
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(d.host, "/")+"/version", nil)
	if err != nil {
		return err
	}
	resp, err := d.http.Do(req)
	if err != nil {
		if ctx.Err() == nil {
			return err
		}
		if cause := context.Cause(ctx); !connected.Load() {
			return cause
		}
		return late{limit}
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode == http.StatusUnauthorized {
		return notTaken{resp.Status}
	}
	return nil
}
