package proxy

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/fetch"
)

// The resource types, by shorter names.
const (
	typeCluster  = xds.TypeCluster
	typeEndpoint = xds.TypeEndpoint
	typeListener = xds.TypeListener
	typeRoute    = xds.TypeRoute

	typeVirtualHost = xds.TypeVirtualHost
	typeSecret      = xds.TypeSecret
)

var _ fetch.Handler = (*Proxy)(nil)

// errClosed refuses updates of a proxy that has ended.
var errClosed = errors.New("the proxy is shutting down")

// rejects collects what is refused of one update.
type rejects map[string]error

func (r rejects) err() error {
	if len(r) == 0 {
		return nil
	}
	return &fetch.RejectError{Reasons: r}
}

// Apply implements fetch.Handler.
func (p *Proxy) Apply(typeURL string, added []fetch.Resource, removed []string) error {
	p.mu.Lock()
	defer p.mu.Unlock()

	if p.closed {
		return errClosed
	}

	bad := rejects{}
	switch typeURL {
	case typeCluster:
		p.applyClustersLocked(decodeAll(added, config.DecodeCluster, clusterName, bad), removed, bad)
	case typeEndpoint:
		for _, la := range decodeAll(added, config.DecodeLoadAssignment, loadName, bad) {
			p.clusters.ApplyEndpoints(la)
		}
		for _, name := range removed {
			p.clusters.RemoveEndpoints(name)
		}
	case typeListener:
		p.applyListenersLocked(decodeAll(added, config.DecodeListener, listenerName, bad), removed, bad)
	case typeRoute:
		p.applyRoutesLocked(decodeAll(added, config.DecodeRouteConfiguration, routeName, bad))
	case typeVirtualHost:
		p.applyHostsLocked(decodeAll(added, config.DecodeVirtualHost, virtualHostName, bad), removed, bad)
	case typeSecret:
		p.applySecretsLocked(decodeAll(added, config.DecodeSecret, secretName, bad), removed)
	default:
		return fmt.Errorf("resources of type %s are not used by this proxy", typeURL)
	}

	p.served[typeURL] = true
	for _, name := range slices.Sorted(maps.Keys(bad)) {
		p.log.Warn("resource refused; its former version stays in force", "type", typeURL, "name", name, "error", bad[name])
		p.telemetry.XDSRejected(kindOf(typeURL))
	}
	return bad.err()
}

func clusterName(c *config.Cluster) string     { return c.Name }
func loadName(l *config.LoadAssignment) string { return l.Name }
func listenerName(l *config.Listener) string   { return l.Name }
func routeName(r *config.RouteConfig) string   { return r.Name }

func virtualHostName(v *config.VirtualHost) string { return v.Name }
func secretName(s *config.Secret) string           { return s.Name }

func kindOf(typeURL string) string {
	switch typeURL {
	case typeCluster:
		return "cluster"
	case typeEndpoint:
		return "endpoint"
	case typeListener:
		return "listener"
	case typeVirtualHost:
		return "virtual_host"
	case typeSecret:
		return "secret"
	default:
		return "route"
	}
}

// decodeShare is how many resources a goroutine decodes at least.
const decodeShare = 64

// decodeAll decodes resources, many of them on all processors, and puts the
// reasons for those refused in bad.
func decodeAll[T any](added []fetch.Resource, decode func(*anypb.Any) (T, error), name func(T) string, bad rejects) []T {
	out, errs := make([]T, len(added)), make([]error, len(added))
	workers := max(1, min(runtime.GOMAXPROCS(0), len(added)/decodeShare))
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(added); i += workers {
				r := &added[i]
				out[i], errs[i] = decode(r.Body)
				if errs[i] == nil && r.Name != "" && name(out[i]) != r.Name {
					errs[i] = fmt.Errorf("the resource is named %q, its content %q", r.Name, name(out[i]))
				}
			}
		})
	}

	wg.Wait()

	good := out[:0]
	for i, err := range errs {
		if err != nil {
			bad[added[i].Name] = err
			continue
		}
		good = append(good, out[i])
	}
	return good
}

func (p *Proxy) applyClustersLocked(add []*config.Cluster, removed []string, bad rejects) {
	for _, c := range add {
		if err := p.clusters.Apply(c); err != nil {
			bad[c.Name] = err
		}
	}
	for _, name := range removed {
		p.clusters.Remove(name)
	}

	// After both: a cluster that takes another's place takes over its endpoints.
	p.clusters.DropEndpoints()
	p.wantLoads = p.clusters.EDSNames()
	slices.Sort(p.wantLoads)
}

// applyListenersLocked puts listeners in force whose routes are there, and lets the
// others wait.
func (p *Proxy) applyListenersLocked(add []*config.Listener, removed []string, bad rejects) {
	for _, name := range removed {
		delete(p.pending, name)
	}

	// One that waits leaves its former version in force: better yesterday's routes
	// than none.
	var now []*config.Listener
	for _, l := range add {
		delete(p.pending, l.Name)
		if len(p.missingRoutesLocked(l)) > 0 {
			p.pending[l.Name] = l
			continue
		}
		now = append(now, l)
	}

	for name, err := range p.listeners.Update(now, removed) {
		bad[name] = err
	}
	p.updateWantedRoutesLocked()
}

// Wanted implements fetch.Handler.
func (p *Proxy) Wanted(typeURL string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch typeURL {
	case typeEndpoint:
		return slices.Clone(p.wantLoads)
	case typeRoute:
		return slices.Clone(p.wantRoutes)
	case typeVirtualHost:
		return slices.Clone(p.wantHosts)
	case typeSecret:
		return slices.Clone(p.wantSecrets)
	}
	return nil
}

// WantedChanged implements fetch.Handler. What is wanted changes in Apply
// only, after which the client asks anyway.
func (p *Proxy) WantedChanged() <-chan struct{} { return p.neverClosed }
