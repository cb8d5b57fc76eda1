package httpproxy

import (
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// place is endpoints that stand together, which a test can have hang.
type place struct {
	config.LocalityEndpoints
	hangs atomic.Bool

	mu    sync.Mutex     // guards asked
	asked map[string]int // requests so far, by path
}

func newPlace(t *testing.T, priority uint32, pods int) *place {
	t.Helper()
	p := &place{asked: map[string]int{}}
	p.Priority = priority
	for range pods {
		at := netip.MustParseAddrPort(backend(t, p))
		p.Endpoints = append(p.Endpoints, config.Endpoint{Addr: at.Addr(), Port: at.Port(), Weight: 1, Healthy: true})
	}
	return p
}

// ServeHTTP implements http.Handler.
func (p *place) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked[r.URL.Path]++
	p.mu.Unlock()
	if p.hangs.Load() {
		<-r.Context().Done() // the caller has given it up
	}
}

// most returns how often the request was asked here that was asked most often, and how many were at all.
func (p *place) most() (times, requests int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.asked {
		times = max(times, n)
	}
	return times, len(p.asked)
}

// TestPlaceHangs has the applications of all near endpoints take requests and not answer them. With a bound on each try,
// the second try of a GET leaves the place, whatever has become of the endpoint of the first meanwhile, so that none
// waits longer than once; and those that come later do not find out any more.
func TestPlaceHangs(t *testing.T) {
	t.Parallel()
	bothVersions(t, func(t *testing.T, h2 bool, proto config.HTTPProtocol) {
		t.Parallel()
		// A try is long enough for a busy machine to answer.
		const pods, requests, tryTime = 5, 100, 3 * time.Second
		near, far := newPlace(t, 0, pods), newPlace(t, 1, 1)
		routes := toCluster("c")
		routes.VirtualHosts[0].Routes[0].Action.Retry = &config.RetryPolicy{Attempts: 2, PerTryTimeout: tryTime}
		cluster := &config.Cluster{
			Name: "c", Type: config.ClusterEDS, EDSName: "c", ConnectTimeout: 10 * time.Second,
			HTTP: config.HTTPOptions{Protocol: proto},
		}
		h := startHop(t, setup{hcm: config.HCM{Routes: routes}, clusters: []*config.Cluster{cluster}})
		h.set.ApplyEndpoints(&config.LoadAssignment{Name: "c", Localities: []config.LocalityEndpoints{
			near.LocalityEndpoints, far.LocalityEndpoints,
		}})

		near.hangs.Store(true)
		cl := client(t, h.addr, h2)
		failed := getAll(t, cl, "/early/", requests) + getAll(t, cl, "/late/", requests)
		times, found := near.most()
		t.Logf("%d of %d requests found out that the place hangs", found, 2*requests)
		if failed > 0 || times > 1 {
			t.Errorf("%d of %d requests failed, and one was asked %d times in a place that hangs", failed, 2*requests, times)
		}
		if found > requests+requests/10 {
			t.Errorf("%d requests found out, of which %d were sent before it was known", found, requests)
		}
	})
}

// getAll sends GETs with paths of their own, a few milliseconds apart, and returns how many failed.
func getAll(t *testing.T, cl *http.Client, prefix string, n int) (failed int) {
	t.Helper()
	statuses := make(chan int, n)
	for i := range n {
		go func() {
			resp, err := cl.Get(fmt.Sprintf("http://a%s%d", prefix, i))
			if err != nil {
				t.Error(err)
				statuses <- 0
				return
			}
			resp.Body.Close()
			statuses <- resp.StatusCode
		}()
		time.Sleep(5 * time.Millisecond)
	}
	for range n {
		if status := <-statuses; status != http.StatusOK {
			failed++
		}
	}
	return failed
}
