package upstream

import (
	"cmp"
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/backoff"
	"github.com/isthmus-mesh/isthmus/internal/wake"
	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// Resolver turns a host name into addresses.
type Resolver interface {
	// Resolve returns the addresses of a host, IPv4 and IPv6, and for how long
	// they may be used: the least TTL of the records that led to them. It is
	// zero where nobody says (/etc/hosts), and where a record says so.
	Resolve(ctx context.Context, host string) (addrs []netip.Addr, ttl time.Duration, err error)
}

// Bounds of how often names are resolved.
const (
	dnsFloor    = 2 * time.Second  // never more often, even when connections fail
	dnsDefault  = 15 * time.Second // unless the cluster or a TTL says otherwise
	dnsRetry    = time.Second      // after the first failure; doubles
	dnsRetryMax = 30 * time.Second
	dnsTimeout  = 5 * time.Second
)

// dnsWatch keeps the endpoints of a DNS cluster resolved.
type dnsWatch struct {
	cluster *Cluster
	cancel  context.CancelFunc
	done    chan struct{}
	nudge   wake.Signal // see hurry
	last    map[string][]netip.Addr
}

// watchNames starts resolving. A cluster whose endpoints are all IP literals
// is done at once. last are addresses of before, for names that cannot be resolved.
func watchNames(c *Cluster, last map[string][]netip.Addr) *dnsWatch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &dnsWatch{
		cluster: c, cancel: cancel, done: make(chan struct{}),
		nudge: wake.NewSignal(), last: last,
	}
	if len(w.hosts()) == 0 {
		w.publish()
		close(w.done)
		return w
	}

	go w.run(ctx)
	return w
}

func (w *dnsWatch) stop() {
	w.cancel()
	<-w.done
}

// hurry asks for a fresh look, because an address did not answer.
func (w *dnsWatch) hurry() {
	w.nudge.Send()
}

// hosts returns the distinct names to resolve.
func (w *dnsWatch) hosts() []string {
	var out []string
	if w.cluster.Config().Endpoints == nil {
		return nil
	}

	for _, l := range w.cluster.Config().Endpoints.Localities {
		for _, e := range l.Endpoints {
			if e.Host != "" && !slices.Contains(out, e.Host) {
				out = append(out, e.Host)
			}
		}
	}
	return out
}

func (w *dnsWatch) run(ctx context.Context) {
	defer close(w.done)
	hosts := w.hosts()
	retries := backoff.Delays{First: dnsRetry, Most: dnsRetryMax}

	for {
		ttl, failed := w.resolve(ctx, hosts)
		if ctx.Err() != nil {
			return
		}
		w.publish()

		wait := refreshAfter(w.cluster.Config(), ttl)
		if failed {
			wait = min(wait, retries.Next())
		} else {
			retries.Reset()
		}

		if !w.sleep(ctx, wait) {
			return
		}
	}
}

// refreshAfter is how long the addresses of a cluster are used before its names
// are resolved again. ttl is the least of their records, zero where it is not
// known. A record that says zero wants to be asked for by each connection, which
// nothing here does: the cluster's own time holds then, as in Envoy.
func refreshAfter(c *config.Cluster, ttl time.Duration) time.Duration {
	if c.DNSByTTL && ttl > 0 {
		return ttl
	}
	return cmp.Or(c.DNSRefresh, dnsDefault)
}

// sleep waits until the next look: d, and up to a tenth more, so that the
// proxies of a mesh do not ask all at once. A nudge ends it, but not before the
// floor: an endpoint that is down must not become a flood of questions.
func (w *dnsWatch) sleep(ctx context.Context, d time.Duration) bool {
	d = max(d, dnsRetry)
	d += time.Duration(rand.Int64N(int64(d)/10 + 1))

	floor := time.NewTimer(min(d, dnsFloor))
	defer floor.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-floor.C:
	}

	rest := time.NewTimer(max(d-dnsFloor, 0))
	defer rest.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-rest.C:
	case <-w.nudge:
	}
	return true
}

// resolve looks all names up and returns the least TTL. A name that fails keeps
// its last addresses.
func (w *dnsWatch) resolve(ctx context.Context, hosts []string) (ttl time.Duration, failed bool) {
	for _, h := range hosts {
		addrs, t, err := w.lookUp(ctx, h)
		if err != nil || len(addrs) == 0 {
			failed = true
			if ctx.Err() == nil {
				w.cluster.set.log.Warn("name not resolved; its last addresses stay in use",
					"cluster", w.cluster.name, "host", h, "error", err, "addresses", len(w.last[h]))
			}
			continue
		}

		if t > 0 && (ttl == 0 || t < ttl) {
			ttl = t
		}

		if w.cluster.kind == config.ClusterLogicalDNS {
			addrs = addrs[:1]
		} else {
			// In an order of its own: DNS servers turn theirs with every answer.
			slices.SortFunc(addrs, netip.Addr.Compare)
		}
		w.last[h] = addrs
	}
	return ttl, failed
}

// lookUp resolves one name to the addresses of the families that the cluster
// takes.
func (w *dnsWatch) lookUp(ctx context.Context, host string) ([]netip.Addr, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()

	addrs, ttl, err := w.cluster.set.resolver.Resolve(ctx, host)
	if err != nil {
		return nil, 0, err
	}
	return family(addrs, w.cluster.Config().DNSFamily), ttl, nil
}

// publish makes endpoints of the addresses known.
func (w *dnsWatch) publish() {
	la := &config.LoadAssignment{Name: w.cluster.name}
	if given := w.cluster.Config().Endpoints; given != nil {
		for _, l := range given.Localities {
			l.Endpoints = w.resolved(l.Endpoints)
			la.Localities = append(la.Localities, l)
		}
	}
	w.cluster.setLoad(la)
}

// resolved puts in place of each endpoint with a name one for every address that
// it has.
func (w *dnsWatch) resolved(given []config.Endpoint) []config.Endpoint {
	var out []config.Endpoint
	for _, e := range given {
		if e.Host == "" {
			out = append(out, e)
			continue
		}

		for _, addr := range w.last[e.Host] {
			r := e
			r.Addr = addr
			if r.Hostname == "" {
				r.Hostname = e.Host
			}
			out = append(out, r)
		}
	}

	return out
}

// family filters addresses, and unmaps IPv4 in IPv6.
func family(addrs []netip.Addr, f config.DNSFamily) []netip.Addr {
	var v4, v6 []netip.Addr
	for _, a := range addrs {
		if a = a.Unmap(); a.Is4() {
			v4 = append(v4, a)
		} else {
			v6 = append(v6, a)
		}
	}

	switch f {
	case config.DNSV4Only:
		return v4
	case config.DNSV6Only:
		return v6
	case config.DNSV4Preferred:
		if len(v4) > 0 {
			return v4
		}
		return v6
	case config.DNSV6Preferred:
		if len(v6) > 0 {
			return v6
		}
		return v4
	default:
		return append(v4, v6...)
	}
}
