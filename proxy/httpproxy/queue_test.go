package httpproxy

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/mtls/mtlstest"
)

// door is a listener in front of an endpoint, which decides how long a handshake takes.
type door struct {
	net.Listener
	opened atomic.Int32 // connections so far
	inside atomic.Int32 // whose handshake is under way
	enter  func(*door)  // returns when the endpoint may read its first bytes
}

func (d *door) Accept() (net.Conn, error) {
	c, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	d.opened.Add(1)
	return &visitor{Conn: c, door: d}, nil
}

// visitor is a connection that comes by a door.
type visitor struct {
	net.Conn
	door *door
	once sync.Once
}

func (v *visitor) Read(p []byte) (int, error) {
	v.once.Do(func() {
		v.door.inside.Add(1)
		v.door.enter(v.door)
		v.door.inside.Add(-1)
	})
	return v.Conn.Read(p)
}

// behind starts a pod whose connections come by a door, and a sidecar that calls it. change may be nil.
func behind(t *testing.T, enter func(*door), app http.Handler, change func(*config.Cluster, *config.RouteConfig)) (*hop, *door) {
	t.Helper()
	ca := mtlstest.NewCA(t, "root")
	server := pod(t, ca, config.HTTP1, backend(t, app))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{Listener: ln, enter: enter}
	var pipes sync.WaitGroup
	pipes.Add(1)
	go func() {
		defer pipes.Done()
		passOn(d, server.addr, &pipes)
	}()
	t.Cleanup(func() { _ = ln.Close(); pipes.Wait() })

	up, _ := meshTLS(ca, config.HTTP1)
	cluster := staticCluster("c", config.HTTP1, ln.Addr().String())
	cluster.Transport = config.Transport{Name: "tls", TLS: up}
	cluster.ConnectTimeout = 20 * time.Second
	routes := toCluster("c")
	if change != nil {
		change(cluster, routes)
	}
	return startHop(t, setup{
		hcm: config.HCM{Routes: routes}, clusters: []*config.Cluster{cluster},
		identity: ca.Identity("spiffe://cluster.local/ns/foo/sa/client"),
	}), d
}

// passOn carries what comes by a listener to an address and back, as a gateway that reads nothing of it.
func passOn(ln net.Listener, addr string, pipes *sync.WaitGroup) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		pipes.Add(1)
		go func() {
			defer pipes.Done()
			defer c.Close()
			to, err := net.Dial("tcp", addr)
			if err != nil {
				return
			}
			pipes.Add(1)
			go func() {
				defer pipes.Done()
				_, _ = io.Copy(c, to)
				_ = c.Close()
			}()
			_, _ = io.Copy(to, c)
			_ = to.Close()
		}()
	}
}

// TestDialsAreBounded: of many requests that find no connection, a few dial, and the rest goes by their connections.
func TestDialsAreBounded(t *testing.T) {
	const requests = 60
	open := make(chan struct{})
	var answered atomic.Int32
	h, d := behind(t, func(*door) { <-open }, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { answered.Add(1) }), nil)
	cl := client(t, h.addr, false)
	statuses := make(chan int, requests)
	for range requests {
		go func() { statuses <- statusOfGet(t, cl) }()
	}

	pool := h.server.pool(h.set.Get("c").Endpoints()[0])
	eventually(t, "all requests to wait", func() bool { return waiting(pool) == requests })
	eventually(t, "the first dials", func() bool { return d.inside.Load() == firstPace })
	if n := d.opened.Load(); n != firstPace {
		t.Errorf("%d requests dial at once, want %d", n, firstPace)
	}

	close(open)
	for range requests {
		if status := <-statuses; status != 200 {
			t.Errorf("status %d", status)
		}
	}
	if answered.Load() != requests {
		t.Errorf("%d requests were answered", answered.Load())
	}
}

// TestGivenBackBeforeDialled: who waits for a dial takes a connection that has become free meanwhile; and the one that
// comes about too late is kept.
func TestGivenBackBeforeDialled(t *testing.T) {
	open, first := make(chan struct{}), make(chan struct{})
	var doors atomic.Int32
	slowly := func(*door) {
		if doors.Add(1) > 1 {
			<-open
		}
	}
	var asked atomic.Int32
	h, d := behind(t, slowly, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if asked.Add(1) == 1 {
			<-first
		}
	}), nil)

	statuses := make(chan int, 2)
	go func() { statuses <- statusOfGet(t, client(t, h.addr, false)) }()
	eventually(t, "the first request", func() bool { return asked.Load() == 1 })
	go func() { statuses <- statusOfGet(t, client(t, h.addr, false)) }()
	eventually(t, "the second dial", func() bool { return d.inside.Load() == 1 })
	close(first)
	for range 2 {
		select {
		case status := <-statuses:
			if status != 200 {
				t.Errorf("status %d", status)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("a request waits for its own dial, while a connection is free")
		}
	}

	close(open)
	pool := h.server.pool(h.set.Get("c").Endpoints()[0])
	eventually(t, "both connections to lie idle", func() bool {
		pool.mu.Lock()
		defer pool.mu.Unlock()
		return len(pool.idle) == 2
	})
}

// TestDialOfOthersFails: who came while a dial to a lone endpoint was under way is not given up with it, but gets the next
// one.
func TestDialOfOthersFails(t *testing.T) {
	bothVersions(t, func(t *testing.T, h2 bool, proto config.HTTPProtocol) {
		ca := mtlstest.NewCA(t, "root")
		server := pod(t, ca, proto, backend(t, http.NotFoundHandler()))
		drop := make(chan struct{})
		var came atomic.Int32
		addr := rawBackend(t, func(c net.Conn) {
			if came.Add(1) <= firstPace { // as many as may come about at once
				<-drop
				return
			}
			to, err := net.Dial("tcp", server.addr)
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(to, c)
				_ = to.Close()
			}()
			_, _ = io.Copy(c, to)
		})

		h := caller(t, ca, proto, addr)
		pool := h.server.pool(h.set.Get("c").Endpoints()[0])
		cl := client(t, h.addr, h2)
		first := 1 // that dial, of those that are dropped
		if proto == config.HTTP1 {
			first = firstPace
		} else {
			came.Store(firstPace - 1)
		}
		const late = 3
		statuses := make(chan int, first+late)
		for range first {
			go func() { statuses <- statusOfGet(t, cl) }()
		}
		eventually(t, "the first dials", func() bool { return came.Load() == firstPace })
		for range late {
			go func() { statuses <- statusOfGet(t, cl) }()
		}
		if proto == config.HTTP1 {
			eventually(t, "all to wait", func() bool { return waiting(pool) == first+late })
		} else {
			// Nothing shows that they wait. One that comes later makes the test weaker, not wrong.
			time.Sleep(100 * time.Millisecond)
		}
		close(drop)

		failed := 0
		for range first + late {
			if <-statuses == 503 {
				failed++
			}
		}
		if failed > first {
			t.Errorf("%d requests failed with the dials of %d", failed, first)
		}
	})
}

// waiting returns how many requests wait for a connection for HTTP/1.
func waiting(p *endpointPool) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.queue.waiting)
}

// TestWaitingEndsInTime: a request waits for a connection until its own time is over, for which the endpoint is not
// blamed.
func TestWaitingEndsInTime(t *testing.T) {
	open := make(chan struct{})
	h, d := behind(t, func(*door) { <-open }, http.NotFoundHandler(), func(_ *config.Cluster, r *config.RouteConfig) {
		r.VirtualHosts[0].Routes[0].Action.Timeout = 50 * time.Millisecond
	})
	for range 5 {
		if status := statusOfGet(t, client(t, h.addr, false)); status != 504 {
			t.Errorf("status %d, want 504", status)
		}
	}
	eventually(t, "the flag UT", func() bool { return counted(t, h, "istio_requests_total", "response_flags", "UT") == 5 })
	if n := d.opened.Load(); n != 1 {
		t.Errorf("%d dials for five requests, one after the other, of which none came about", n)
	}

	close(open)
	cl := client(t, h.addr, false)
	eventually(t, "the connection to come about and be used", func() bool { return statusOfGet(t, cl) == 404 })
}

// TestLimitOfPending: who waits beyond the limit is refused at once.
func TestLimitOfPending(t *testing.T) {
	open := make(chan struct{})
	h, _ := behind(t, func(*door) { <-open }, http.NotFoundHandler(), func(c *config.Cluster, _ *config.RouteConfig) {
		c.Limits = noLimits()
		c.Limits.Pending = 1
	})
	statuses := make(chan int, firstPace+2)
	for range firstPace + 2 {
		go func() { statuses <- statusOfGet(t, client(t, h.addr, false)) }()
	}
	if status := <-statuses; status != 503 {
		t.Errorf("with %d dials under way and one more waiting, the last one got %d", firstPace, status)
	}
	eventually(t, "the flag UO", func() bool { return counted(t, h, "istio_requests_total", "response_flags", "UO") == 1 })
	close(open)
	for range firstPace + 1 {
		if status := <-statuses; status != 404 {
			t.Errorf("got %d", status)
		}
	}
}

// TestEverybodyComesAtOnce has all near endpoints go at once, while the one that is left is short of processor time:
// the more handshakes it has under way, the longer each of them takes. No request fails, and few dial.
func TestEverybodyComesAtOnce(t *testing.T) {
	const requests, work = 200, 30 * time.Millisecond
	busy := func(d *door) {
		for left := work; left > 0; left -= 10 * time.Millisecond / time.Duration(max(d.inside.Load(), 1)) {
			time.Sleep(10 * time.Millisecond)
		}
	}
	for name, gone := range map[string]bool{"their endpoints are removed": true, "they refuse connections": false} {
		t.Run(name, func(t *testing.T) {
			near := []config.Endpoint{}
			for range 3 {
				at := netip.MustParseAddrPort(refusedAddr(t))
				near = append(near, config.Endpoint{Addr: at.Addr(), Port: at.Port(), Weight: 1, Healthy: true})
			}
			h, d := behind(t, busy, http.NotFoundHandler(), func(c *config.Cluster, _ *config.RouteConfig) {
				c.Type, c.EDSName, c.ConnectTimeout = config.ClusterEDS, "c", 500*time.Millisecond
			})
			far := netip.MustParseAddrPort(d.Addr().String())
			la := &config.LoadAssignment{Name: "c"}
			if !gone {
				la.Localities = append(la.Localities, config.LocalityEndpoints{Endpoints: near})
			}
			la.Localities = append(la.Localities, config.LocalityEndpoints{Priority: 1, Endpoints: []config.Endpoint{
				{Addr: far.Addr(), Port: far.Port(), Weight: 1, Healthy: true, Gateway: true},
			}})
			h.set.ApplyEndpoints(la)

			var failed atomic.Int32
			var wg sync.WaitGroup
			cl := client(t, h.addr, false)
			for i := range requests {
				time.Sleep(5 * time.Millisecond)
				wg.Add(1)
				go func() {
					defer wg.Done()
					ask, method := cl.Get, "GET"
					if i%6 == 0 {
						method = "POST"
						ask = func(url string) (*http.Response, error) { return cl.Post(url, "text/plain", strings.NewReader("a")) }
					}
					resp, err := ask("http://a/")
					if err != nil {
						failed.Add(1)
						t.Error(err)
						return
					}
					body, _ := io.ReadAll(resp.Body)
					resp.Body.Close()
					if resp.StatusCode != 404 { // the far application's answer
						failed.Add(1)
						t.Logf("%s: %d %s", method, resp.StatusCode, body)
					}
				}()
			}
			wg.Wait()
			t.Logf("%d of %d requests failed, %d dials", failed.Load(), requests, d.opened.Load())
			if failed.Load() > 0 {
				t.Errorf("%d requests failed", failed.Load())
			}
			if n := d.opened.Load(); n > requests/2 {
				t.Errorf("%d dials for %d requests", n, requests)
			}
		})
	}
}
