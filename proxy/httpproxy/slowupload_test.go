package httpproxy

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// twoEndpoints is a cluster of a near endpoint and a far one, so that requests can go
// elsewhere when the near one is gone.
func twoEndpoints(t *testing.T, near, far string) (*config.Cluster, *config.LoadAssignment) {
	t.Helper()
	a := &config.LoadAssignment{Name: "c"}
	for i, at := range []string{near, far} {
		addr := netip.MustParseAddrPort(at)
		a.Localities = append(a.Localities, config.LocalityEndpoints{
			Priority:  uint32(i),
			Endpoints: []config.Endpoint{{Addr: addr.Addr(), Port: addr.Port(), Weight: 1, Healthy: true}},
		})
	}
	return &config.Cluster{
		Name: "c", Type: config.ClusterEDS, EDSName: "c", ConnectTimeout: 500 * time.Millisecond,
	}, a
}

// TestSlowUpload: an application that reads nothing of a large body for longer than a
// dead machine is waited for is not dead, and gets all of it in the end. The next
// request on the connection is impatient again.
func TestSlowUpload(t *testing.T) {
	t.Parallel()
	var got, requests atomic.Int64
	near := backend(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 1 {
			time.Sleep(3 * time.Second) // five times as long
		}
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			t.Error(err)
		}
		got.Add(n)
	}))
	far := backend(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it went to the far endpoint") }))
	cluster, assignment := twoEndpoints(t, near, far)
	h := startHop(t, setup{hcm: config.HCM{Routes: toCluster("c")}, clusters: []*config.Cluster{cluster}})
	h.set.ApplyEndpoints(assignment)

	const size = 32 << 20 // more than all buffers on the way
	cl := client(t, h.addr, false)
	for _, n := range []int64{size, 10} {
		resp, err := cl.Post("http://a/", "application/octet-stream", bytes.NewReader(make([]byte, n)))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("%d bytes: status %d", n, resp.StatusCode)
		}
	}
	if got.Load() != size+10 {
		t.Errorf("the application has %d bytes, want %d", got.Load(), size+10)
	}
}

// TestEndure: the bound is taken off, and set again as it was.
func TestEndure(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()

	var s silence
	s.watch(c)
	limit := func(set int) (got int) {
		err := s.waits.Control(func(fd uintptr) {
			if set > 0 {
				if err := unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, set); err != nil {
					t.Error(err)
				}
			}
			got, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}

	limit(700)
	s.endure()
	s.endure() // twice is once
	if got := limit(0); got != 0 {
		t.Errorf("the bound is %d ms", got)
	}
	s.hurry()
	if got := limit(0); got != 700 {
		t.Errorf("the bound is %d ms again, want 700", got)
	}
}
