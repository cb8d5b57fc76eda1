package fleet

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/xds"
)

const deltaMethod = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"

// absent stands for the version of a resource that does not exist.
const absent = -1

// proxy is one simulated proxy: what it holds outlives its streams.
type proxy struct {
	f *Fleet
	i int
	// held maps names to versions, by kind.
	held [kinds]map[int32]int32
	// refs counts who refers to a name of endpoints or routes, or to a route
	// configuration for its virtual hosts.
	refs    [kinds]map[int32]int
	refsOf  [kinds]map[int32][]int32
	missing [kinds]int // names referred to and not held

	served     [kinds]bool // on this stream
	subscribed [kinds]bool
	synced     bool
	push       push
	changed    []int32
}

func newProxy(f *Fleet, i int) *proxy {
	p := &proxy{f: f, i: i}
	for k := range kinds {
		p.held[k], p.refs[k], p.refsOf[k] = map[int32]int32{}, map[int32]int{}, map[int32][]int32{}
	}
	return p
}

func (p *proxy) run(ctx context.Context) {
	for attempt := 0; ; attempt++ {
		before := p.f.connects.Load()
		err := p.session(ctx)
		if p.synced {
			p.synced = false
			p.f.setSynced(false)
		}
		if ctx.Err() != nil {
			return
		}
		p.f.fail(fmt.Errorf("proxy %d: %w", p.i, err))
		if p.f.connects.Load() != before && p.served[clusters] {
			attempt = 0
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause(attempt)):
		}
	}
}

// session is one connection with one stream.
func (p *proxy) session(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cc, err := p.f.dial()
	if err != nil {
		return err
	}
	defer func() { _ = cc.Close() }()
	if p.f.cfg.Token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+p.f.cfg.Token)
	}
	desc := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	stream, err := cc.NewStream(ctx, desc, deltaMethod)
	if err != nil {
		return err
	}
	p.f.connects.Add(1)
	p.served, p.subscribed = [kinds]bool{}, [kinds]bool{}
	if err := p.hello(stream); err != nil {
		return err
	}
	var msg []byte
	for {
		if err := stream.RecvMsg(&msg); err != nil {
			return err
		}
		if err := p.receive(stream, msg); err != nil {
			return err
		}
		// A proxy does not sit on the memory of its largest push.
		if cap(msg) > 64<<10 {
			msg = nil
		}
	}
}

// hello asks for clusters and listeners, and, after a break, at once for the
// endpoints and routes that are known to be needed.
func (p *proxy) hello(stream grpc.ClientStream) error {
	for k := range kinds {
		wildcard := k == clusters || k == listeners
		if !wildcard && len(p.refs[k]) == 0 {
			continue
		}
		req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURLs[k], InitialResourceVersions: p.versions(k)}
		if k == clusters {
			req.Node = p.f.cfg.Node(p.i)
		}
		if !wildcard {
			for n := range p.refs[k] {
				req.ResourceNamesSubscribe = append(req.ResourceNamesSubscribe, p.f.atlas.string(n))
			}
			slices.Sort(req.ResourceNamesSubscribe)
			p.subscribed[k] = true
		}
		if err := send(stream, req); err != nil {
			return err
		}
	}
	return nil
}

func (p *proxy) versions(k kind) map[string]string {
	m := make(map[string]string, len(p.held[k]))
	for n, v := range p.held[k] {
		if v != absent {
			m[p.f.atlas.string(n)] = p.f.atlas.string(v)
		}
	}
	return m
}

func send(stream grpc.ClientStream, req *discoveryv3.DeltaDiscoveryRequest) error {
	b, err := proto.Marshal(req)
	if err != nil {
		return err
	}
	return stream.SendMsg(b)
}

// receive takes one push: keeps versions, acknowledges, and asks for what the
// new resources refer to.
func (p *proxy) receive(stream grpc.ClientStream, msg []byte) error {
	if err := p.push.parse(msg); err != nil {
		return err
	}
	k, err := kindOf(p.push.typeURL)
	if err != nil {
		return err
	}
	p.f.bytes.Add(int64(len(msg)))
	p.f.perKind[k].Add(int64(len(msg)))
	p.f.pushes.Add(1)
	p.f.resources.Add(int64(len(p.push.resources)))
	p.served[k] = true
	p.changed = p.changed[:0]
	var more, less []string
	for _, r := range p.push.resources {
		if err := p.keep(k, r, &more, &less); err != nil {
			return err
		}
	}
	for _, name := range p.push.removed {
		p.drop(k, p.f.atlas.number(name), &less)
	}
	if err := send(stream, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURLs[k], ResponseNonce: string(p.push.nonce)}); err != nil {
		return err
	}
	p.f.arrived(k, p.changed)
	if err := p.subscribe(stream, k, more, less); err != nil {
		return err
	}
	p.note()
	return nil
}

// subscribe tells of names that are wanted now or no longer.
func (p *proxy) subscribe(stream grpc.ClientStream, from kind, more, less []string) error {
	k := from.target()
	if len(more) == 0 && len(less) == 0 {
		return nil
	}
	p.subscribed[k] = true
	return send(stream, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURLs[k],
		ResourceNamesSubscribe: more, ResourceNamesUnsubscribe: less})
}

// target is the kind that k's resources refer to; k itself when they refer to none.
func (k kind) target() kind {
	switch k {
	case clusters:
		return endpoints
	case listeners:
		return routes
	case routes:
		return hosts
	}
	return k
}

func (p *proxy) keep(k kind, r resource, more, less *[]string) error {
	name, version := p.f.atlas.number(r.name), p.f.atlas.number(r.version)
	old, had := p.held[k][name]
	if had && old == version {
		return nil
	}
	if !had && p.refs[k][name] > 0 {
		p.missing[k]--
	}
	p.held[k][name] = version
	if k == hosts {
		p.answered(r.name)
	}
	p.changed = append(p.changed, name)
	refs, err := p.f.atlas.refersTo(refKey{k, name, version}, r.body)
	if err != nil {
		return err
	}
	before := p.refsOf[k][name]
	if slices.Equal(before, refs) {
		return nil
	}
	t := k.target()
	for _, n := range refs {
		if p.refs[t][n]++; p.refs[t][n] == 1 {
			*more = append(*more, p.f.atlas.string(n))
			if _, held := p.held[t][n]; !held {
				p.missing[t]++
			}
		}
	}
	p.release(t, before, less)
	p.refsOf[k][name] = refs
	return nil
}

// answered notes that the virtual hosts of a route configuration have come, of which
// this is one: its name is then held, as absent.
func (p *proxy) answered(host []byte) {
	routeConfig := p.f.atlas.number(host[:max(0, bytes.LastIndexByte(host, '/'))])
	if _, held := p.held[hosts][routeConfig]; !held && p.refs[hosts][routeConfig] > 0 {
		p.held[hosts][routeConfig] = absent
		p.missing[hosts]--
	}
}

// drop takes a removal. A name that something still refers to is kept as
// absent: the server has answered for it.
func (p *proxy) drop(k kind, name int32, less *[]string) {
	_, had := p.held[k][name]
	if !had && p.refs[k][name] == 0 {
		return
	}
	p.changed = append(p.changed, name)
	if p.refs[k][name] > 0 {
		p.held[k][name] = absent
		if !had {
			p.missing[k]--
		}
		return
	}
	delete(p.held[k], name)
	p.release(k.target(), p.refsOf[k][name], less)
	delete(p.refsOf[k], name)
}

// release takes references back. What nothing refers to is forgotten.
func (p *proxy) release(t kind, refs []int32, less *[]string) {
	for _, n := range refs {
		if p.refs[t][n]--; p.refs[t][n] > 0 {
			continue
		}
		delete(p.refs[t], n)
		if _, held := p.held[t][n]; held {
			delete(p.held[t], n)
		} else {
			p.missing[t]--
		}
		*less = append(*less, p.f.atlas.string(n))
		if t == hosts {
			p.forgetHosts(p.f.atlas.string(n))
		}
	}
}

// forgetHosts forgets the virtual hosts of a route configuration.
func (p *proxy) forgetHosts(routeConfig string) {
	for n := range p.held[hosts] {
		if xds.SubscribedAs(xds.TypeVirtualHost, p.f.atlas.string(n)) == routeConfig {
			delete(p.held[hosts], n)
		}
	}
}

// note tells the fleet when the proxy comes into sync or falls out of it.
func (p *proxy) note() {
	in := p.served[clusters] && p.served[listeners]
	for _, k := range []kind{endpoints, routes, hosts} {
		in = in && p.missing[k] == 0 && (p.served[k] || !p.subscribed[k])
	}
	if in != p.synced {
		p.synced = in
		p.f.setSynced(in)
	}
}
