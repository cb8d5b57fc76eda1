package httpproxy

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

// TestPlaceIsGone has all near endpoints of a cluster go away under load, as pods do that are deleted: their connections
// end, and what is sent to their addresses vanishes. No request may fail, and none may wait until a connection to such
// an address fails.
func TestPlaceIsGone(t *testing.T) {
	t.Parallel()
	if !ownNetwork(t) {
		return
	}
	bothVersions(t, placeIsGone)
}

func placeIsGone(t *testing.T, h2 bool, proto config.HTTPProtocol) {
	const pods, requests = 5, 200
	// Long enough that nobody takes a machine that is slow for a wait for it.
	const connectTimeout = 10 * time.Second
	app := func(http.ResponseWriter, *http.Request) {}
	near := config.LocalityEndpoints{Region: "near"}
	var stops []func()
	for i := range pods {
		addr, stop := shortLived(t, netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)}), app)
		near.Endpoints = append(near.Endpoints, config.Endpoint{Addr: addr.Addr(), Port: addr.Port(), Weight: 1, Healthy: true})
		stops = append(stops, stop)
	}
	var answered atomic.Int32
	at := netip.MustParseAddrPort(backend(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { answered.Add(1) })))
	far := config.LocalityEndpoints{Region: "far", Priority: 1, Endpoints: []config.Endpoint{
		{Addr: at.Addr(), Port: at.Port(), Weight: 1, Healthy: true},
	}}

	cluster := &config.Cluster{
		Name: "c", Type: config.ClusterEDS, EDSName: "c", ConnectTimeout: connectTimeout,
		HTTP: config.HTTPOptions{Protocol: proto},
	}
	h := startHop(t, setup{hcm: config.HCM{Routes: toCluster("c")}, clusters: []*config.Cluster{cluster}})
	h.set.ApplyEndpoints(&config.LoadAssignment{Name: "c", Localities: []config.LocalityEndpoints{near, far}})
	cl := client(t, h.addr, h2)
	for range 10 * pods {
		if status := statusOfGet(t, cl); status != 200 || answered.Load() > 0 {
			t.Fatalf("before: status %d, %d requests far", status, answered.Load())
		}
	}

	for i := range near.Endpoints {
		defer swallow(t, near.Endpoints[i].Addr)()
		stops[i]()
	}
	// A POST on a connection whose end has not been noticed may have been acted on, and would fail.
	eventually(t, "the ends of the connections to be noticed", func() bool {
		return !slices.ContainsFunc(h.set.Get("c").Endpoints(), func(e *upstream.Endpoint) bool {
			return e.Addr() != at && h.server.pool(e).h2.ready() != nil
		})
	})
	var failed, slow atomic.Int32
	var slowest atomic.Int64
	var wg sync.WaitGroup
	for i := range requests {
		wg.Add(1)
		go func() {
			defer wg.Done()
			began := time.Now()
			if !gets200(cl, i%5 == 0) {
				failed.Add(1)
			}
			took := time.Since(began)
			if took > connectTimeout/2 {
				slow.Add(1)
			}
			for old := slowest.Load(); int64(took) > old && !slowest.CompareAndSwap(old, int64(took)); {
				old = slowest.Load()
			}
		}()
		time.Sleep(5 * time.Millisecond)
	}
	wg.Wait()
	t.Logf("%d of %d requests failed, the slowest took %v", failed.Load(), requests, time.Duration(slowest.Load()))
	if failed.Load() > 0 || slow.Load() > 0 {
		t.Errorf("of %d requests %d failed, and %d waited for a machine that is gone", requests, failed.Load(), slow.Load())
	}
	if n := answered.Load(); n != requests {
		t.Errorf("%d requests were acted on %d times", requests, n)
	}
}

// gets200 reports whether a POST or a GET is answered with 200.
func gets200(cl *http.Client, post bool) bool {
	method := http.MethodGet
	if post {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(context.Background(), method, "http://a/", strings.NewReader(""))
	if err != nil {
		return false
	}
	resp, err := cl.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// shortLived starts a server for both versions of HTTP that ends with all its connections when stop is called.
func shortLived(t *testing.T, addr netip.Addr, app http.HandlerFunc) (at netip.AddrPort, stop func()) {
	t.Helper()
	ln, err := net.Listen("tcp", netip.AddrPortFrom(addr, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	srv := &http.Server{Handler: app, Protocols: p}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(ln)
	}()
	stop = func() { _ = srv.Close(); <-done }
	t.Cleanup(stop)
	return ln.Addr().(*net.TCPAddr).AddrPort(), stop
}
