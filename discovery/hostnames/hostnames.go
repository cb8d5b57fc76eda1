// Package hostnames keeps the host names of gateways resolved: those that the mesh
// configuration gives, and those of load balancers.
//
// They are resolved here and not by the proxies because Envoy takes addresses
// alone in the endpoints that it is sent (EDS): so there is one answer for all
// proxies, whatever they are.
package hostnames

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/backoff"
	"github.com/isthmus-mesh/isthmus/model"
)

// How often a name is resolved: by the TTL of its records, and not more often
// than minWait; by noTTL where nobody says (/etc/hosts).
const (
	minWait  = 5 * time.Second
	noTTL    = 30 * time.Second
	retry    = time.Second // after the first failure; doubles
	retryMax = 30 * time.Second
	timeout  = 5 * time.Second
)

// Resolver turns a host name into addresses, and says for how long they may be
// used; zero: nobody says.
type Resolver interface {
	Resolve(ctx context.Context, host string) (addrs []netip.Addr, ttl time.Duration, err error)
}

// Follower writes the addresses of gateways' names into a Store.
type Follower struct {
	store    *model.Store
	cluster  model.ClusterID
	resolver Resolver
	log      *slog.Logger
}

// New makes a Follower for the control plane of a cluster. Run starts it.
func New(store *model.Store, cluster model.ClusterID, resolver Resolver, log *slog.Logger) *Follower {
	return &Follower{store: store, cluster: cluster, resolver: resolver, log: log}
}

// Run resolves until ctx ends, and returns nil then.
func (f *Follower) Run(ctx context.Context) error {
	following := map[string]func(){} // each ends the following of a name
	defer func() {
		for _, stop := range following {
			stop()
		}
	}()

	for {
		wanted, networks, entrances := f.wanted()
		for name, stop := range following {
			if !slices.Contains(wanted, name) {
				stop()
				f.drop(name)
				delete(following, name)
			}
		}
		for _, name := range wanted {
			if following[name] == nil {
				following[name] = f.start(ctx, name)
			}
		}

		select {
		case <-ctx.Done():
			return nil
		case <-networks:
		case <-entrances:
		}
	}
}

// wanted are the names of the gateways, and what closes when they may be others.
// The names of other Services' load balancers are nobody's concern.
func (f *Follower) wanted() (names []string, networks, entrances <-chan struct{}) {
	txn := f.store.Read()
	add := func(address string) {
		if _, err := netip.ParseAddr(address); err != nil && !slices.Contains(names, address) {
			names = append(names, address)
		}
	}

	var services []string
	configured, networks := f.store.Networks.AllWatch(txn)
	for n := range configured {
		if n.Cluster != f.cluster {
			continue
		}
		for _, gw := range n.Gateways {
			if gw.Address != "" {
				add(gw.Address)
			} else {
				services = append(services, gw.Service)
			}
		}
	}

	all, entrances := f.store.Entrances.AllWatch(txn)
	for e := range all {
		if e.Network != "" || slices.ContainsFunc(services, e.CalledBy) {
			for _, a := range e.Addresses {
				add(a)
			}
		}
	}
	return names, networks, entrances
}

// start follows a name until stop is called, which waits for the end.
func (f *Follower) start(ctx context.Context, name string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { f.follow(ctx, name) })
	return func() { cancel(); running.Wait() }
}

// follow keeps a name resolved. When it cannot be resolved any longer, its last
// addresses stay.
func (f *Follower) follow(ctx context.Context, name string) {
	retries := backoff.Delays{First: retry, Most: retryMax}
	told := "" // the last failure
	for {
		addrs, ttl, err := f.resolve(ctx, name)
		if ctx.Err() != nil {
			return
		}

		wait := waitFor(ttl)
		switch {
		case err != nil:
			wait = retries.Next()
			if told != err.Error() {
				told = err.Error()
				f.log.Warn("the name of a gateway is not resolved; its last addresses stay in use", "name", name, "error", err)
			}
		case len(addrs) > 0:
			retries.Reset()
			told = ""
			f.write(&model.Name{Cluster: f.cluster, Name: name, Addresses: addrs})
		}

		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// waitFor is how long an answer is used.
func waitFor(ttl time.Duration) time.Duration {
	if ttl == 0 {
		return noTTL
	}
	return max(ttl, minWait)
}

// resolve gives the addresses of a name in an order of their own: DNS servers turn
// theirs with every answer. Where there are IPv4 addresses the others are left
// out: which of the proxies have IPv6, nobody knows here.
func (f *Follower) resolve(ctx context.Context, name string) ([]netip.Addr, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	all, ttl, err := f.resolver.Resolve(ctx, name)
	if err != nil {
		return nil, 0, err
	}

	var v4, v6 []netip.Addr
	for _, a := range all {
		if a = a.Unmap(); a.Is4() {
			v4 = append(v4, a)
		} else {
			v6 = append(v6, a)
		}
	}
	if len(v4) == 0 {
		v4 = v6
	}
	slices.SortFunc(v4, netip.Addr.Compare)
	return slices.Compact(v4), ttl, nil
}

// write inserts a row unless the same is there.
func (f *Follower) write(row *model.Name) {
	txn := f.store.Write()
	defer txn.Abort()
	if f.store.Names.Put(txn, row) {
		txn.Commit()
		f.log.Info("the name of a gateway has addresses", "name", row.Name, "addresses", row.Addresses)
	}
}

func (f *Follower) drop(name string) {
	txn := f.store.Write()
	defer txn.Abort()
	f.store.Names.Remove(txn, (&model.Name{Cluster: f.cluster, Name: name}).Key())
	txn.Commit()
}
