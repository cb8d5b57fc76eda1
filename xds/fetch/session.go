package fetch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"

	"github.com/isthmus-mesh/isthmus/xds"
)

// named tells the types of which names are subscribed to, not all.
func named(typeURL string) bool {
	return typeURL == xds.TypeEndpoint || typeURL == xds.TypeRoute || typeURL == xds.TypeVirtualHost || typeURL == xds.TypeSecret
}

// session is one stream.
type session struct {
	client    *Client
	rpc       discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	state     *state
	responses chan *discoveryv3.DeltaDiscoveryResponse
	ended     chan error
	// subscribed holds the names of named types; a missing entry says that
	// the type has not been asked for on this stream.
	subscribed map[string]map[string]bool
	introduced bool // the node was sent
	answered   bool
}

// receive hands over what comes in, until the stream ends.
func (s *session) receive(ctx context.Context) {
	for {
		m, err := s.rpc.Recv()
		if err != nil {
			s.ended <- err
			return
		}
		select {
		case s.responses <- m:
		case <-ctx.Done():
			return
		}
	}
}

// follow subscribes, and handles updates until the stream ends.
func (s *session) follow(ctx context.Context) error {
	s.subscribed = make(map[string]map[string]bool, 2)
	changed := s.client.cfg.Handler.WantedChanged()
	for _, t := range s.client.types() {
		if err := s.subscribeFirst(t); err != nil {
			return s.failure(err)
		}
	}

	for {
		select {
		case m := <-s.responses:
			if !s.answered {
				s.connected()
			}
			if err := s.update(m); err != nil {
				return s.failure(err)
			}
		case <-changed:
		case err := <-s.ended:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}

		// What came may name resources that have to be asked for.
		changed = s.client.cfg.Handler.WantedChanged()
		for _, t := range s.client.types() {
			if named(t) {
				if err := s.resubscribe(t); err != nil {
					return s.failure(err)
				}
			}
		}
	}
}

func (s *session) connected() {
	s.answered = true
	c := s.client
	c.set(func(st *Status) { st.Connected, st.Since, st.Err = true, time.Now(), nil })
	c.metrics.connected.Set(1)
	c.cfg.Logger.Info("connected to discovery", "address", c.cfg.Address)
}

// failure prefers the reason why the stream ended over the error of a write
// into it, which is only EOF.
func (s *session) failure(err error) error {
	select {
	case ended := <-s.ended:
		return ended
	case <-time.After(time.Second):
		return err
	}
}

func (s *session) send(req *discoveryv3.DeltaDiscoveryRequest) error {
	if !s.introduced {
		req.Node, s.introduced = s.client.cfg.Node, true
	}
	return s.rpc.Send(req)
}

// subscribeFirst asks for a type for the first time on this stream, and says
// what is there from an earlier one. No names, no question.
func (s *session) subscribeFirst(typeURL string) error {
	var want []string
	if named(typeURL) {
		if want = s.want(typeURL); len(want) == 0 {
			return nil
		}
		s.state.forget(typeURL, set(want))
	}

	req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, InitialResourceVersions: s.state.has(typeURL)}
	if named(typeURL) {
		s.subscribed[typeURL] = set(want)
		req.ResourceNamesSubscribe = want
	}
	if typeURL == xds.TypeNameTable {
		// A control plane that has no such type answers to names alone, and be it
		// to this one (xDS protocol, wildcard resource subscriptions).
		req.ResourceNamesSubscribe = []string{"*"}
	}
	return s.send(req)
}

// resubscribe follows what the handler wants of a named type.
func (s *session) resubscribe(typeURL string) error {
	have := s.subscribed[typeURL]
	if have == nil {
		return s.subscribeFirst(typeURL)
	}
	want := s.want(typeURL)
	req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL}
	wanted := set(want)
	for _, n := range want {
		if !have[n] {
			req.ResourceNamesSubscribe = append(req.ResourceNamesSubscribe, n)
		}
	}
	for n := range have {
		if !wanted[n] {
			req.ResourceNamesUnsubscribe = append(req.ResourceNamesUnsubscribe, n)
		}
	}
	if len(req.ResourceNamesSubscribe)+len(req.ResourceNamesUnsubscribe) == 0 {
		return nil
	}
	slices.Sort(req.ResourceNamesUnsubscribe)
	s.state.forget(typeURL, wanted)
	s.subscribed[typeURL] = wanted
	return s.send(req)
}

// want is the handler's wish in order and without duplicates.
func (s *session) want(typeURL string) []string {
	names := slices.Clone(s.client.cfg.Handler.Wanted(typeURL))
	slices.Sort(names)
	return slices.Compact(names)
}

func set(names []string) map[string]bool {
	out := make(map[string]bool, len(names))
	for _, n := range names {
		out[n] = true
	}
	return out
}

// update hands one update over and acknowledges or refuses it.
func (s *session) update(m *discoveryv3.DeltaDiscoveryResponse) error {
	c := s.client
	ack := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: m.GetTypeUrl(), ResponseNonce: m.GetNonce()}
	if !s.state.follows(m.GetTypeUrl()) {
		return fmt.Errorf("discovery sent type %q, which was not asked for", m.GetTypeUrl())
	}
	added, removed, err := s.accept(m)
	if err == nil {
		err = c.cfg.Handler.Apply(m.GetTypeUrl(), added, removed)
	} else {
		added, removed = nil, nil
	}
	short := m.GetTypeUrl()[strings.LastIndexByte(m.GetTypeUrl(), '.')+1:]
	c.metrics.updates.WithLabelValues(short).Inc()
	s.state.record(m.GetTypeUrl(), added, removed, err)
	if err != nil {
		c.metrics.rejects.WithLabelValues(short).Inc()
		c.cfg.Logger.Error("update refused", "type", short, "error", err)
		ack.ErrorDetail = &rpcstatus.Status{Code: int32(codes.InvalidArgument), Message: err.Error()}
	}
	c.set(func(st *Status) { st.Updated, st.Rejected = time.Now(), err })
	return s.send(ack)
}

// accept checks the form of an update, and leaves out names that were
// unsubscribed while it was on its way.
func (s *session) accept(m *discoveryv3.DeltaDiscoveryResponse) ([]Resource, []string, error) {
	typeURL := m.GetTypeUrl()
	skip := func(name string) bool {
		return named(typeURL) && !s.subscribed[typeURL][xds.SubscribedAs(typeURL, name)]
	}
	added := make([]Resource, 0, len(m.GetResources()))
	seen := make(map[string]bool, len(m.GetResources()))
	for _, r := range m.GetResources() {
		switch {
		case r.GetName() == "":
			return nil, nil, errors.New("a resource has no name")
		case r.GetResource().GetTypeUrl() != typeURL:
			return nil, nil, fmt.Errorf("%s: type %q in an update of %q", r.GetName(), r.GetResource().GetTypeUrl(), typeURL)
		case seen[r.GetName()]:
			return nil, nil, fmt.Errorf("%s: twice in one update", r.GetName())
		}
		seen[r.GetName()] = true
		if !skip(r.GetName()) {
			added = append(added, Resource{Name: r.GetName(), Version: r.GetVersion(), Body: r.GetResource()})
		}
	}
	removed := make([]string, 0, len(m.GetRemovedResources()))
	for _, n := range m.GetRemovedResources() {
		if !skip(n) && !seen[n] {
			removed = append(removed, n)
		}
	}
	return added, removed, nil
}
