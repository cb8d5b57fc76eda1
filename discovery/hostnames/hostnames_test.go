package hostnames

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/model"
)

// zone is a Resolver.
type zone struct {
	mu    sync.Mutex
	addrs map[string][]netip.Addr
	ttl   time.Duration
	asked map[string]int
}

func (z *zone) Resolve(_ context.Context, host string) ([]netip.Addr, time.Duration, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.asked[host]++
	if z.addrs[host] == nil {
		return nil, 0, errors.New("no such host")
	}
	return slices.Clone(z.addrs[host]), z.ttl, nil
}

func (z *zone) set(host string, addrs ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.addrs[host] = nil
	for _, a := range addrs {
		z.addrs[host] = append(z.addrs[host], netip.MustParseAddr(a))
	}
}

// TestFollow: names come, change, fail and go.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, err := model.NewStore()
		if err != nil {
			t.Fatal(err)
		}
		insert := func(write func(txn model.WriteTxn)) {
			txn := store.Write()
			write(txn)
			txn.Commit()
		}
		entrance := func(name, network string, addresses ...string) {
			insert(func(txn model.WriteTxn) {
				store.Entrances.Put(txn, &model.Entrance{Cluster: "c2", Namespace: "istio-system", Name: name,
					Host: name + ".istio-system.svc.cluster.local", Network: network, Addresses: addresses})
			})
		}
		z := &zone{addrs: map[string][]netip.Addr{}, asked: map[string]int{}, ttl: time.Second}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var running sync.WaitGroup
		running.Go(func() { _ = New(store, "c1", z, slog.New(slog.DiscardHandler)).Run(ctx) })

		want := func(what, name string, addrs ...string) {
			t.Helper()
			row, _, ok := store.Names.Get(store.Read(), store.Names.ByKey((&model.Name{Cluster: "c1", Name: name}).Key()))
			var got []string
			if ok {
				for _, a := range row.Addresses {
					got = append(got, a.String())
				}
			}
			if !slices.Equal(got, addrs) {
				t.Errorf("%s: %s has %v, want %v", what, name, got, addrs)
			}
		}

		z.set("lb.example", "192.0.2.2", "192.0.2.1", "2001:db8::1")
		z.set("named.example", "2001:db8::2")
		z.set("other.example", "192.0.2.9")
		entrance("gw", "net2", "192.0.2.77", "lb.example")
		entrance("named", "", "named.example")
		entrance("other", "", "other.example")
		insert(func(txn model.WriteTxn) {
			store.Networks.Put(txn, &model.Network{Cluster: "c1", Name: "net3", Gateways: []model.NetworkGateway{
				{Address: "late.example"}, {Address: "192.0.2.5"}, {Service: "named.istio-system.svc.cluster.local"},
			}})
			store.Networks.Put(txn, &model.Network{Cluster: "c2", Name: "net3", Gateways: []model.NetworkGateway{{Address: "foreign.example"}}})
		})
		synctest.Wait()
		want("at first", "lb.example", "192.0.2.1", "192.0.2.2")
		want("at first", "named.example", "2001:db8::2")
		want("at first", "late.example")
		if z.asked["other.example"]+z.asked["foreign.example"]+z.asked["192.0.2.5"] > 0 {
			t.Errorf("asked for what leads nowhere: %v", z.asked)
		}

		z.set("late.example", "192.0.2.30")
		z.set("lb.example", "192.0.2.3")
		time.Sleep(4 * time.Second)
		synctest.Wait()
		want("four seconds later", "late.example", "192.0.2.30")
		want("before five seconds", "lb.example", "192.0.2.1", "192.0.2.2")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		want("after five seconds", "lb.example", "192.0.2.3")

		z.set("lb.example")
		time.Sleep(time.Minute)
		synctest.Wait()
		want("when it fails", "lb.example", "192.0.2.3")
		if n := z.asked["lb.example"]; n > 12 {
			t.Errorf("asked %d times in a minute for what fails", n)
		}

		entrance("gw", "net2", "192.0.2.77")
		synctest.Wait()
		want("when nobody needs it", "lb.example")
		cancel()
		running.Wait()
	})
}

func TestWaitFor(t *testing.T) {
	for ttl, want := range map[time.Duration]time.Duration{
		0: noTTL, time.Second: minWait, time.Minute: time.Minute,
	} {
		if got := waitFor(ttl); got != want {
			t.Errorf("%v: %v, want %v", ttl, got, want)
		}
	}
}
