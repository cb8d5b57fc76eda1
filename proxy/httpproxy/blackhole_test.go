package httpproxy

import (
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

const inNamespace = "ISTHMUS_TEST_BLACK_HOLE"

// TestBlackHole has the near endpoint of a cluster vanish under load: nothing that is sent to it arrives any more, on
// connections of old or new. No GET may fail, and none may take longer than it takes to know.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	if ownNetwork(t) {
		bothVersions(t, blackHole)
	}
}

// ownNetwork reports whether the test stands in a network namespace of its own, as a process, because each of its threads
// must be there. If not, it runs the test as such a one.
func ownNetwork(t *testing.T) bool {
	if os.Getenv(inNamespace) != "" {
		loopbackUp(t)
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a network namespace")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
	return false
}

func loopbackUp(t *testing.T) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
}

func blackHole(t *testing.T, h2 bool, proto config.HTTPProtocol) {
	var near, far atomic.Int32
	count := func(n *atomic.Int32) http.Handler {
		return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { n.Add(1) })
	}
	assignment := &config.LoadAssignment{Name: "c"}
	for i, at := range []string{backendAt(t, "127.0.0.2:0", count(&near)), backend(t, count(&far))} {
		addr := netip.MustParseAddrPort(at)
		assignment.Localities = append(assignment.Localities, config.LocalityEndpoints{
			Priority:  uint32(i),
			Endpoints: []config.Endpoint{{Addr: addr.Addr(), Port: addr.Port(), Weight: 1, Healthy: true}},
		})
	}
	cluster := &config.Cluster{
		Name: "c", Type: config.ClusterEDS, EDSName: "c", ConnectTimeout: 500 * time.Millisecond,
		HTTP: config.HTTPOptions{Protocol: proto},
	}
	h := startHop(t, setup{hcm: config.HCM{Routes: toCluster("c")}, clusters: []*config.Cluster{cluster}})
	h.set.ApplyEndpoints(assignment)

	cl := client(t, h.addr, h2)
	for range 20 {
		if status := statusOfGet(t, cl); status != 200 {
			t.Fatalf("before: status %d", status)
		}
	}
	if far.Load() != 0 {
		t.Fatalf("before: %d of 20 requests went far", far.Load())
	}

	heal := swallow(t, netip.MustParseAddr("127.0.0.2"))
	var failed, done atomic.Int32
	var slowest atomic.Int64
	var wg sync.WaitGroup
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 300 {
		<-tick.C
		wg.Add(1)
		go func() {
			defer wg.Done()
			began := time.Now()
			if statusOfGet(t, cl) != 200 {
				failed.Add(1)
			}
			done.Add(1)
			for took := int64(time.Since(began)); ; {
				if old := slowest.Load(); took <= old || slowest.CompareAndSwap(old, took) {
					return
				}
			}
		}()
	}
	wg.Wait()
	t.Logf("%d of %d requests failed, the slowest took %v", failed.Load(), done.Load(), time.Duration(slowest.Load()))
	if failed.Load() > 0 {
		t.Errorf("%d requests failed", failed.Load())
	}
	if slowest := time.Duration(slowest.Load()); slowest > 10*time.Second { // TCP alone takes minutes
		t.Errorf("the slowest took %v", slowest)
	}

	heal()
	before := near.Load()
	for end := time.Now().Add(20 * time.Second); near.Load() < before+5; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing goes near again")
		}
		if status := statusOfGet(t, cl); status != 200 {
			t.Errorf("afterwards: status %d", status)
		}
	}
}

// backendAt is backend at an address.
func backendAt(t *testing.T, addr string, handler http.Handler) string {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return serveBackend(t, ln, handler)
}

// swallow has everything vanish that is sent to an address, until heal is called.
func swallow(t *testing.T, addr netip.Addr) (heal func()) {
	t.Helper()
	c := &nftables.Conn{}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "hole " + addr.String()})
	chain := c.AddChain(&nftables.Chain{
		Name: "in", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter,
	})
	const destination = 16 // in the header of IPv4
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: destination, Len: 4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: addr.AsSlice()},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	return func() {
		c.DelTable(table)
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
	}
}
