// Package lbaddr gives addresses to Services of type LoadBalancer, the part
// that a cloud provider plays elsewhere. It chooses an address, has it put on
// the node and writes it into the Service's status; kube-proxy does the rest.
package lbaddr

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/lab/internal/kubeapi"
)

const (
	servicesPath = "/api/v1/services"
	// again is the wait before a lost watch is started anew.
	again = 300 * time.Millisecond
)

// Service is the part of a Service (core/v1) that matters here.
type Service struct {
	Metadata struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		Type              string  `json:"type"`
		LoadBalancerClass *string `json:"loadBalancerClass"`
		LoadBalancerIP    string  `json:"loadBalancerIP"`
	} `json:"spec"`
	Status struct {
		LoadBalancer struct {
			Ingress []Ingress `json:"ingress"`
		} `json:"loadBalancer"`
	} `json:"status"`
}

// Ingress is one address of a load balancer.
type Ingress struct {
	IP string `json:"ip,omitempty"`
}

func (s Service) key() string { return s.Metadata.Namespace + "/" + s.Metadata.Name }

// wants reports whether the Service is ours to serve.
func (s Service) wants() bool {
	return s.Spec.Type == "LoadBalancer" && s.Spec.LoadBalancerClass == nil
}

// current is the address in the Service's status, if it has just one.
func (s Service) current() netip.Addr {
	in := s.Status.LoadBalancer.Ingress
	if len(in) != 1 {
		return netip.Addr{}
	}
	ip, err := netip.ParseAddr(in[0].IP)
	if err != nil {
		return netip.Addr{}
	}
	return ip
}

// assign gives each Service that wants one an address of the pool, by key. An
// address once given stays; the rest goes in order of names.
func assign(pool []netip.Addr, services []Service) (given map[string]netip.Addr, without []string) {
	free := map[netip.Addr]bool{}
	for _, ip := range pool {
		free[ip] = true
	}

	given = map[string]netip.Addr{}
	take := func(s Service, ip netip.Addr) {
		if _, has := given[s.key()]; !has && free[ip] {
			given[s.key()] = ip
			delete(free, ip)
		}
	}

	wanting := slices.DeleteFunc(slices.Clone(services), func(s Service) bool { return !s.wants() })
	slices.SortFunc(wanting, func(a, b Service) int { return strings.Compare(a.key(), b.key()) })
	for _, s := range wanting {
		take(s, s.current())
	}

	for _, s := range wanting {
		if ip, err := netip.ParseAddr(s.Spec.LoadBalancerIP); err == nil {
			take(s, ip)
		}
	}

	next := 0
	for _, s := range wanting {
		for ; next < len(pool) && given[s.key()] == (netip.Addr{}); next++ {
			take(s, pool[next])
		}
		if given[s.key()] == (netip.Addr{}) {
			without = append(without, s.key())
		}
	}
	return given, without
}

// Giver serves one cluster.
type Giver struct {
	Client *kubeapi.Client
	// Pool are the addresses to give, the first one first.
	Pool []netip.Addr
	// Put makes the node answer for exactly these addresses.
	Put func([]netip.Addr) error
	Log *slog.Logger

	services map[string]Service
}

// Run serves until ctx ends. An API server that does not answer is tried
// again.
func (g *Giver) Run(ctx context.Context) {
	for ctx.Err() == nil {
		err := kubeapi.Follow(ctx, g.Client, servicesPath,
			func(all []Service) error { return g.replace(ctx, all) },
			func(ev kubeapi.Event[Service]) error { return g.change(ctx, ev) })
		g.Log.Debug("following services again", "after", err)
		select {
		case <-time.After(again):
		case <-ctx.Done():
		}
	}
}

func (g *Giver) replace(ctx context.Context, all []Service) error {
	g.services = map[string]Service{}
	for _, s := range all {
		g.services[s.key()] = s
	}
	return g.reconcile(ctx)
}

func (g *Giver) change(ctx context.Context, ev kubeapi.Event[Service]) error {
	switch ev.Type {
	case "ADDED", "MODIFIED":
		g.services[ev.Object.key()] = ev.Object
	case "DELETED":
		delete(g.services, ev.Object.key())
	default:
		return nil
	}
	return g.reconcile(ctx)
}

// reconcile makes node and statuses agree with the Services.
func (g *Giver) reconcile(ctx context.Context) error {
	var all []Service
	for _, s := range g.services {
		all = append(all, s)
	}

	given, without := assign(g.Pool, all)
	for _, key := range without {
		g.Log.Warn("no load-balancer address is left", "service", key)
	}

	var put []netip.Addr
	for _, ip := range given {
		put = append(put, ip)
	}
	if err := g.Put(put); err != nil {
		return err
	}

	for _, s := range all {
		if err := g.writeStatus(ctx, s, given[s.key()]); err != nil {
			return err
		}
	}
	return nil
}

// writeStatus writes the address into the Service, or takes ours out of a
// Service that no longer is a load balancer.
func (g *Giver) writeStatus(ctx context.Context, s Service, ip netip.Addr) error {
	if s.current() == ip {
		return nil
	}
	if !ip.IsValid() && !slices.Contains(g.Pool, s.current()) {
		return nil // an address that someone else gave
	}

	var ingress []Ingress
	if ip.IsValid() {
		ingress = []Ingress{{IP: ip.String()}}
	}

	path := fmt.Sprintf("/api/v1/namespaces/%s/services/%s/status", s.Metadata.Namespace, s.Metadata.Name)
	patch := map[string]any{"status": map[string]any{"loadBalancer": map[string]any{"ingress": ingress}}}
	err := g.Client.MergePatch(ctx, path, patch)
	if kubeapi.IsNotFound(err) {
		return nil // deleted meanwhile
	}
	if err != nil {
		return fmt.Errorf("give address %s to service %s: %w", ip, s.key(), err)
	}

	s.Status.LoadBalancer.Ingress = ingress
	g.services[s.key()] = s
	g.Log.Info("load-balancer address", "service", s.key(), "ip", ip)
	return nil
}
