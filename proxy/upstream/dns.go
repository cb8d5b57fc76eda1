package upstream

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// Bounds of how often names are resolved.
const (
	dnsFloor   = 2 * time.Second  // never more often, even when connections fail
	dnsDefault = 15 * time.Second // unless the cluster says otherwise
	dnsRetry   = time.Second      // after the first failure; doubles
	dnsTimeout = 5 * time.Second
)

// Resolver turns a host name into addresses.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// systemResolver is Go's own, by /etc/resolv.conf, which it reads again when
// that changes.
func systemResolver() Resolver { return &net.Resolver{PreferGo: true} }

// dnsWatch keeps the endpoints of a DNS cluster resolved.
type dnsWatch struct {
	cluster *Cluster
	cancel  context.CancelFunc
	done    chan struct{}
	nudge   chan struct{}
	last    map[string][]netip.Addr
}

// watchNames starts resolving. A cluster whose endpoints are all IP literals
// is done at once.
func watchNames(c *Cluster) *dnsWatch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &dnsWatch{
		cluster: c, cancel: cancel, done: make(chan struct{}),
		nudge: make(chan struct{}, 1), last: map[string][]netip.Addr{},
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
	select {
	case w.nudge <- struct{}{}:
	default:
	}
}

// hosts returns the distinct names to resolve.
func (w *dnsWatch) hosts() []string {
	var out []string
	if w.cluster.cfg.Endpoints == nil {
		return nil
	}
	for _, l := range w.cluster.cfg.Endpoints.Localities {
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
	retry := dnsRetry
	for {
		failed := w.resolve(ctx, hosts)
		if ctx.Err() != nil {
			return
		}
		w.publish()
		wait := w.cluster.cfg.DNSRefresh
		if wait == 0 {
			wait = dnsDefault
		}
		if failed {
			wait = min(wait, retry)
			retry = min(retry*2, 30*time.Second)
		} else {
			retry = dnsRetry
		}
		if !w.sleep(ctx, wait) {
			return
		}
	}
}

// sleep waits with some jitter, and less when nudged.
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

// resolve looks all names up. A name that fails keeps its last addresses.
func (w *dnsWatch) resolve(ctx context.Context, hosts []string) (failed bool) {
	for _, h := range hosts {
		lctx, cancel := context.WithTimeout(ctx, dnsTimeout)
		addrs, err := w.cluster.set.resolver.LookupNetIP(lctx, "ip", h)
		cancel()
		if err == nil {
			addrs = family(addrs, w.cluster.cfg.DNSFamily)
		}
		if err != nil || len(addrs) == 0 {
			failed = true
			if ctx.Err() == nil {
				w.cluster.set.log.Warn("name not resolved; its last addresses stay in use",
					"cluster", w.cluster.cfg.Name, "host", h, "error", err, "addresses", len(w.last[h]))
			}
			continue
		}
		if w.cluster.cfg.Type == config.ClusterLogicalDNS {
			addrs = addrs[:1]
		} else {
			slices.SortFunc(addrs, netip.Addr.Compare)
		}
		w.last[h] = addrs
	}
	return failed
}

// publish makes endpoints of the addresses known.
func (w *dnsWatch) publish() {
	src := w.cluster.cfg.Endpoints
	la := &config.LoadAssignment{Name: w.cluster.cfg.Name}
	if src != nil {
		for _, l := range src.Localities {
			out := l
			out.Endpoints = nil
			for _, e := range l.Endpoints {
				if e.Host == "" {
					out.Endpoints = append(out.Endpoints, e)
					continue
				}
				for _, a := range w.last[e.Host] {
					r := e
					r.Addr = a
					if r.Hostname == "" {
						r.Hostname = e.Host
					}
					out.Endpoints = append(out.Endpoints, r)
				}
			}
			la.Localities = append(la.Localities, out)
		}
	}
	w.cluster.setLoad(la)
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
