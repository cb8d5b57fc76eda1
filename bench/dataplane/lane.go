package dataplane

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"time"

	"github.com/isthmus-mesh/isthmus/bench/load"
	"github.com/isthmus-mesh/isthmus/bench/upstream"
	"github.com/isthmus-mesh/isthmus/test/rig/meter"
	"github.com/isthmus-mesh/isthmus/test/rig/peers"
	"github.com/isthmus-mesh/isthmus/test/rig/topo"
)

// The contenders.
const (
	Direct  = "direct" // no proxy: what client, network and server take alone
	HAProxy = "haproxy"
	Nginx   = "nginx"
	Envoy   = "envoy"
	Isthmus = "isthmus"
)

// lane is one contender's nodes and processes.
type lane struct {
	name           string
	client, server *topo.Node
	// near is the proxy by the client, far the one by the server; nil where
	// there is none.
	near, far *peers.Proxy
	target    func(scenario) target
}

// pids are the proxies that a request of the way passes.
func (l *lane) pids(w Way) []int {
	var pids []int
	if l.near != nil {
		pids = append(pids, l.near.PIDs()...)
	}
	if l.far != nil && w == TwoHops {
		pids = append(pids, l.far.PIDs()...)
	}
	return pids
}

func (l *lane) alive() error {
	for _, p := range []*peers.Proxy{l.near, l.far} {
		if p != nil {
			if err := p.Alive(); err != nil {
				return err
			}
		}
	}
	return nil
}

// figures are what one run of load showed.
type figures struct {
	cpu      time.Duration // of the proxies, per request
	rate     float64
	p50, p99 time.Duration
	total    int64 // requests, warm-up included
}

// run sends the scenario's load through the lane.
func (l *lane) run(s scenario, rate float64, warmup, duration time.Duration) (figures, error) {
	spec := s.spec(l.target(s))
	spec.Rate, spec.Warmup, spec.Duration = rate, warmup, duration
	pids := l.pids(s.way)
	var before, after time.Duration
	spec.AtStart = func() (err error) { before, err = meter.CPU(pids...); return err }
	spec.AtEnd = func() (err error) { after, err = meter.CPU(pids...); return err }
	var res *load.Result
	err := l.client.Do(func() (err error) { res, err = load.Run(spec); return err })
	if err != nil {
		if dead := l.alive(); dead != nil {
			err = dead
		}
		return figures{}, fmt.Errorf("%s, %s: %w", l.name, s.name, err)
	}
	f := figures{rate: res.Rate(), p50: res.Quantile(0.5), p99: res.Quantile(0.99), total: res.Total}
	if res.Requests > 0 {
		f.cpu = (after - before) / time.Duration(res.Requests)
	}
	return f, nil
}

// stream is what sending bytes over one connection showed.
type stream struct {
	rate     float64 // MB/s
	cpuPerGB time.Duration
}

func (l *lane) stream(w Way, size int64) (stream, error) {
	t := l.target(scenario{way: w, port: upstream.PortTCP})
	pids := l.pids(w)
	conn, err := l.client.Dial(t.addr.String())
	if err != nil {
		return stream{}, fmt.Errorf("%s: stream: %w", l.name, err)
	}
	defer func() { _ = conn.Close() }()
	before, err := meter.CPU(pids...)
	if err != nil {
		return stream{}, err
	}
	took, err := load.Stream(conn, size)
	if err != nil {
		return stream{}, fmt.Errorf("%s, %s: %w", l.name, w, err)
	}
	after, err := meter.CPU(pids...)
	if err != nil {
		return stream{}, err
	}
	gb := float64(size) / 1e9
	return stream{rate: 1000 * gb / took.Seconds(), cpuPerGB: time.Duration(float64(after-before) / gb)}, nil
}

// startUpstream runs the servers on the node, as a process of this program.
func startUpstream(ctx context.Context, self string, node *topo.Node) error {
	cmd := exec.CommandContext(ctx, self, "upstream")
	if err := node.Start(cmd); err != nil {
		return fmt.Errorf("upstream on %s: %w", node.Name, err)
	}
	go func() { _ = cmd.Wait() }()
	deadline := time.Now().Add(5 * time.Second)
	for {
		c, err := node.Dial(netip.AddrPortFrom(node.Addr, upstream.PortTCP).String())
		if err == nil {
			return c.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("upstream on %s: %w", node.Name, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
