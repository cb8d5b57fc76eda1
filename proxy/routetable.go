package proxy

import (
	"fmt"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/routes"
	"github.com/isthmus-mesh/isthmus/xds"
)

// routeTable is what has come of one route configuration.
type routeTable struct {
	slot routes.Slot
	// config is the configuration that came last; nil before the first.
	config *config.RouteConfig
	// answered tells that the virtual hosts have come which are resources of their
	// own. Before that the configuration is not put in force: it would send
	// requests where its unknown hosts go, or answer them with 404.
	answered bool
}

// applyRoutesLocked replaces route configurations, and puts listeners in force that
// waited for them. A removed route configuration stays in force for as long
// as a listener refers to it, as in Envoy.
func (p *Proxy) applyRoutesLocked(add []*config.RouteConfig) {
	for _, rc := range add {
		t := p.tableLocked(rc.Name)
		if t.config != nil && t.config.Version == rc.Version {
			continue
		}
		t.config = rc

		switch {
		case !rc.HostsApart:
			t.answered = false
			t.slot.Store(routes.Compile(rc, p.clusters))
		case t.answered:
			// The header edits of the configuration are part of each host's routes.
			table, _ := routes.Compile(rc, p.clusters).With(t.slot.Load().Apart(), nil)
			t.slot.Store(table)
		}
	}
	p.updateWantedHostsLocked()
	p.releaseListenersLocked()
}

// applyHostsLocked replaces virtual hosts that are resources of their own.
func (p *Proxy) applyHostsLocked(add []*config.VirtualHost, removed []string, bad rejects) {
	changed, gone := map[string][]*config.VirtualHost{}, map[string][]string{}
	names := map[string]bool{}
	for _, v := range add {
		name := xds.SubscribedAs(typeVirtualHost, v.Name)
		if t := p.routes[name]; t == nil || t.config == nil || !t.config.HostsApart {
			bad[v.Name] = fmt.Errorf("there is no route configuration %q that has its virtual hosts apart (vhds)", name)
			continue
		}
		changed[name] = append(changed[name], v)
		names[name] = true
	}

	// The name of a configuration is among the removed when it has no hosts.
	for _, v := range removed {
		name := xds.SubscribedAs(typeVirtualHost, v)
		gone[name] = append(gone[name], v)
		names[name] = true
	}

	for name := range names {
		if t := p.routes[name]; t != nil && t.config != nil && t.config.HostsApart {
			maps.Copy(bad, t.applyHosts(changed[name], gone[name], p))
		}
	}
	p.releaseListenersLocked()
}

// applyHosts replaces virtual hosts of one configuration, and returns the reasons for
// those refused. With the first of them the configuration is in force.
func (t *routeTable) applyHosts(changed []*config.VirtualHost, gone []string, p *Proxy) map[string]error {
	base := t.slot.Load()
	if !t.answered {
		t.answered = true
		base = routes.Compile(t.config, p.clusters)
	}
	table, refused := base.With(changed, gone)
	t.slot.Store(table)
	return refused
}

// releaseListenersLocked puts listeners in force that have waited for routes.
func (p *Proxy) releaseListenersLocked() {
	var now []*config.Listener
	for _, l := range p.pending {
		if len(p.missingRoutesLocked(l)) == 0 {
			now = append(now, l)
		}
	}
	if len(now) == 0 {
		return
	}

	for _, l := range now {
		delete(p.pending, l.Name)
	}
	for name, err := range p.listeners.Update(now, nil) {
		p.log.Error("listener cannot be put in force", "listener", name, "error", err)
	}
	p.updateWantedRoutesLocked()
}

// missingRoutesLocked returns the route configurations of a listener that have not
// come yet.
func (p *Proxy) missingRoutesLocked(l *config.Listener) []string {
	return slices.DeleteFunc(l.RouteNames(), func(n string) bool {
		t := p.routes[n]
		return t != nil && t.slot.Load() != nil
	})
}

// updateWantedRoutesLocked works out the names to subscribe to, and forgets the routes
// that nobody refers to any more.
func (p *Proxy) updateWantedRoutesLocked() {
	wanted := map[string]bool{}
	all := p.listeners.Listeners()
	for _, l := range p.pending {
		all = append(all, l)
	}

	for _, l := range all {
		for _, n := range l.RouteNames() {
			wanted[n] = true
		}
	}

	p.updateWantedSecretsLocked(all)
	p.wantRoutes = slices.Sorted(maps.Keys(wanted))
	for n := range p.routes {
		if !wanted[n] {
			delete(p.routes, n)
		}
	}
	p.updateWantedHostsLocked()
}

// updateWantedHostsLocked works out of which configurations virtual hosts are wanted.
func (p *Proxy) updateWantedHostsLocked() {
	p.wantHosts = nil
	for n, t := range p.routes {
		if t.config != nil && t.config.HostsApart {
			p.wantHosts = append(p.wantHosts, n)
		}
	}
	slices.Sort(p.wantHosts)
}

// tableLocked returns the table of a name.
func (p *Proxy) tableLocked(name string) *routeTable {
	t := p.routes[name]
	if t == nil {
		t = &routeTable{}
		p.routes[name] = t
	}
	return t
}

// Route implements routes.Provider. It is called while a listener is
// put in force, that is from Apply, which holds mu.
func (p *Proxy) Route(name string) *routes.Slot { return &p.tableLocked(name).slot }
