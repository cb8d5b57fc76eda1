package serve

import (
	"slices"
	"strconv"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// StreamAggregatedResources serves one state-of-the-world stream.
func (s *Server) StreamAggregatedResources(rpc discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return s.serve(rpc.Context(), &sotwWire{rpc}, func() (*request, error) {
		r, err := rpc.Recv()
		if err != nil {
			return nil, err
		}
		return &request{
			node: r.GetNode(), typeURL: r.GetTypeUrl(), nonce: r.GetResponseNonce(),
			rejected: r.GetErrorDetail() != nil, nack: r.GetErrorDetail().GetMessage(),
			subscribe: r.GetResourceNames(),
		}, nil
	})
}

type sotwWire struct {
	rpc discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer
}

func (*sotwWire) sotw() bool { return true }

// send writes an answer whose resources are encoded already.
func (w *sotwWire) send(sub *subscription, nonce string, cur *snapshot, p *payload, _ []string) error {
	return w.rpc.SendMsg(sotwAnswer(p.bodies, sub.typeURL, nonce, strconv.FormatUint(cur.id, 36)))
}

// handleSotW takes one request. It lists all names that the client wants now. A
// request with another nonce than the last answer's is about an older answer,
// and is followed by one with the right nonce.
func (st *stream) handleSotW(r *request) error {
	sub := st.find(r.typeURL)
	if sub == nil {
		return st.subscribeFirst(r.typeURL, st.firstNames(r), nil)
	}
	if r.nonce != "" && r.nonce != sub.lastSent {
		return nil
	}
	st.settle(sub, r)
	want := st.firstNames(r)
	if want.key == sub.feed.key.names {
		return nil
	}
	more := want.key.all || slices.ContainsFunc(want.sorted, func(n string) bool { return !sub.feed.names.key.all && !sub.feed.names.lists(n) })
	sub.mustAnswer = sub.mustAnswer || more
	return st.exchange(sub, want.key, func() *nameSet { return want })
}
