package serve

import (
	"context"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxTypes bounds the types that one stream may name.
const maxTypes = 16

// stream is one proxy's connection. All fields but status are its handler
// goroutine's alone.
type stream struct {
	srv     *Server
	ctx     context.Context
	node    Node
	wire    wire
	group   *group
	remap   <-chan struct{} // closed when the node may have another View
	subs    []*subscription // in push order
	counter uint64          // of nonces

	connected time.Time
	status    streamStatus
}

// subscription is what a stream wants and has of one type.
type subscription struct {
	typeURL string
	feed    *feed
	// at is what was sent last; nil before the first answer.
	at *snapshot
	// have is what the client says it has from an earlier stream, until the
	// first answer.
	have map[string]string
	// owed: the client waits for an answer even if there is nothing new.
	owed bool
	// again are names that the client asked for once more.
	again []string
	// later are removals that wait until all other types are pushed: a
	// cluster goes after the last route that names it.
	later []string
	// nonce is that of the answer which the client has not acknowledged yet,
	// or "" when there is none. Nothing of the type is sent meanwhile.
	nonce    string
	noticed  time.Time // the change that the outstanding answer tells of
	lastSent string    // the nonce of the last answer, for state of the world
}

// wire is the difference between the two forms of the protocol.
type wire interface {
	// send writes one answer.
	send(sub *subscription, nonce string, cur *snapshot, p *payload, removed []string) error
	sotw() bool
}

// request is a request of either form.
type request struct {
	node        *corev3.Node
	typeURL     string
	nonce       string
	nack        string
	rejected    bool
	subscribe   []string
	unsubscribe []string
	have        map[string]string
}

// serve handles a stream to its end. recv blocks for the next request.
func (s *Server) serve(ctx context.Context, w wire, recv func() (*request, error)) error {
	node, err := s.admit(ctx)
	if err != nil {
		return err
	}
	st := &stream{srv: s, ctx: ctx, node: node, wire: w, connected: time.Now()}
	requests, ended := make(chan *request), make(chan error, 1)
	go func() {
		for {
			r, err := recv()
			if err != nil {
				ended <- err
				return
			}
			select {
			case requests <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	select {
	case r := <-requests:
		if err := st.open(r.node); err != nil {
			s.cfg.Logger.Warn("stream refused", "peer", node.Peer.String(), "error", err)
			return err
		}
		defer st.close()
		if err := st.handle(r); err != nil {
			return err
		}
	case <-ended:
		return nil
	case <-s.stop:
		return errStopping
	}
	return st.loop(requests, ended)
}

// open names the node and finds its View.
func (st *stream) open(core *corev3.Node) error {
	if err := st.node.name(core); err != nil {
		return err
	}
	v, changed, err := st.srv.src.View(st.ctx, st.node)
	if err != nil {
		return viewError(err)
	}
	st.remap, st.group = changed, st.srv.join(v)
	st.srv.add(st)
	st.srv.cfg.Logger.Info("proxy connected", "node", st.node.ID, "identity", st.node.Identity.String(), "view", v.Key())
	return nil
}

func (st *stream) close() {
	st.srv.drop(st)
	for _, sub := range st.subs {
		st.group.release(sub.feed)
	}
	st.srv.leave(st.group)
	st.srv.cfg.Logger.Info("proxy disconnected", "node", st.node.ID)
}

func (st *stream) loop(requests <-chan *request, ended <-chan error) error {
	for {
		next := st.group.next()
		if err := st.push(); err != nil {
			return err
		}
		select {
		case r := <-requests:
			if err := st.handle(r); err != nil {
				return err
			}
		case <-next:
		case <-st.remap:
			if err := st.moveView(); err != nil {
				return err
			}
		case <-ended:
			return nil
		case <-st.srv.stop:
			return errStopping
		case <-st.ctx.Done():
			return status.FromContextError(st.ctx.Err()).Err()
		}
	}
}

// moveView asks for the node's View anew, and moves the subscriptions if it is
// another one. What was sent stays known, so only differences are pushed.
func (st *stream) moveView() error {
	v, changed, err := st.srv.src.View(st.ctx, st.node)
	if err != nil {
		return viewError(err)
	}
	st.remap = changed
	if v.Key() == st.group.key {
		return nil
	}
	old, moved := st.group, st.srv.join(v)
	feeds := make([]*feed, 0, len(st.subs))
	for _, sub := range st.subs {
		f, err := moved.take(sub.typeURL, sub.feed.names.key, func() *nameSet { return sub.feed.names })
		if err != nil {
			for _, f := range feeds {
				moved.release(f)
			}
			st.srv.leave(moved)
			return viewError(err)
		}
		feeds = append(feeds, f)
	}
	for i, sub := range st.subs {
		old.release(sub.feed)
		sub.feed = feeds[i]
	}
	st.group = moved
	st.srv.leave(old)
	st.status.setView(v.Key())
	st.srv.cfg.Logger.Info("proxy changed its view", "node", st.node.ID, "view", v.Key())
	return nil
}

func (st *stream) find(typeURL string) *subscription {
	for _, sub := range st.subs {
		if sub.typeURL == typeURL {
			return sub
		}
	}
	return nil
}

// subscribeFirst makes the subscription that a first request of a type asks for.
func (st *stream) subscribeFirst(typeURL string, names *nameSet, have map[string]string) error {
	if len(st.subs) == maxTypes {
		return status.Errorf(codes.ResourceExhausted, "more than %d types on one stream", maxTypes)
	}
	f, err := st.group.take(typeURL, names.key, func() *nameSet { return names })
	if err != nil {
		return viewError(err)
	}
	sub := &subscription{typeURL: typeURL, feed: f, have: have, owed: names.key.all || names.key.n > 0}
	st.subs = append(st.subs, sub)
	slices.SortStableFunc(st.subs, func(a, b *subscription) int { return pushRank(a.typeURL) - pushRank(b.typeURL) })
	return nil
}

// exchange gives a subscription another set of names.
func (st *stream) exchange(sub *subscription, key nameKey, names func() *nameSet) error {
	if key == sub.feed.key.names {
		return nil
	}
	f, err := st.group.take(sub.typeURL, key, names)
	if err != nil {
		return viewError(err)
	}
	st.group.release(sub.feed)
	sub.feed = f
	return nil
}

// settle takes an acknowledgement or refusal of the outstanding answer.
func (st *stream) settle(sub *subscription, r *request) {
	if sub.nonce == "" || r.nonce != sub.nonce {
		return
	}
	sub.nonce = ""
	name := shortType(sub.typeURL)
	if r.rejected {
		st.srv.metrics.rejects.WithLabelValues(name).Inc()
		st.srv.cfg.Logger.Warn("proxy refused an update", "type", name, "node", st.node.ID, "reason", r.nack)
		st.status.refused(name, r.nack)
		return
	}
	if !sub.noticed.IsZero() {
		st.srv.metrics.convergence.Observe(time.Since(sub.noticed).Seconds())
	}
	st.status.acked(name, r.nonce)
}
