package serve

import (
	"slices"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// wildcard is the name that stands for all, as in the xDS protocol.
const wildcard = "*"

// DeltaAggregatedResources serves one delta stream.
func (s *Server) DeltaAggregatedResources(rpc discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return s.serve(rpc.Context(), &deltaWire{rpc}, func() (*request, error) {
		r, err := rpc.Recv()
		if err != nil {
			return nil, err
		}
		return &request{
			node: r.GetNode(), typeURL: r.GetTypeUrl(), nonce: r.GetResponseNonce(),
			rejected: r.GetErrorDetail() != nil, nack: r.GetErrorDetail().GetMessage(),
			subscribe: r.GetResourceNamesSubscribe(), unsubscribe: r.GetResourceNamesUnsubscribe(),
			have: r.GetInitialResourceVersions(),
		}, nil
	})
}

type deltaWire struct {
	rpc discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
}

func (*deltaWire) sotw() bool { return false }

// send writes an answer whose resources are encoded already.
func (w *deltaWire) send(sub *subscription, nonce string, _ *snapshot, p *payload, removed []string) error {
	return w.rpc.SendMsg(deltaAnswer(p.added, sub.typeURL, nonce, removed))
}

// handle takes one request: an acknowledgement, a change of subscriptions, or
// both.
func (st *stream) handle(r *request) error {
	if st.wire.sotw() {
		return st.handleSotW(r)
	}
	sub := st.find(r.typeURL)
	if sub == nil {
		return st.subscribeFirst(r.typeURL, st.firstNames(r), r.have)
	}

	st.settle(sub, r)
	if len(r.subscribe)+len(r.unsubscribe) == 0 {
		return nil
	}

	names := sub.feed.names
	if slices.Contains(r.subscribe, wildcard) && !names.key.all {
		sub.mustAnswer = true
		all := allNames(r.typeURL)
		return st.exchange(sub, all.key, func() *nameSet { return all })
	}
	if slices.Contains(r.unsubscribe, wildcard) && names.key.all {
		rest := newNames(st.srv.hash, r.typeURL, r.subscribe)
		return st.exchange(sub, rest.key, func() *nameSet { return rest })
	}

	// What is asked for again is sent again, changed or not, as the protocol has
	// it; what is not wanted any more need not be removed.
	c := names.plan(st.srv.hash, r.subscribe, r.unsubscribe)
	sub.resend = append(sub.resend, c.existing...)
	if names.key.all {
		sub.resend = append(sub.resend, r.subscribe...)
	}
	sub.lateRemovals = slices.DeleteFunc(sub.lateRemovals, func(n string) bool { return slices.Contains(c.remove, n) })
	return st.exchange(sub, c.key, c.build)
}

// firstNames reads the names of a type's first request. None means all for
// clusters and listeners, as for every client that is older than the name "*".
func (st *stream) firstNames(r *request) *nameSet {
	if slices.Contains(r.subscribe, wildcard) || len(r.subscribe) == 0 && wholeState(r.typeURL) {
		return allNames(r.typeURL)
	}
	return newNames(st.srv.hash, r.typeURL, r.subscribe)
}
