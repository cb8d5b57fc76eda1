package serve

import (
	"context"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/xds"
)

// stream is one proxy's connection. All fields but status and leaving are its
// handler goroutine's alone.
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
	over      <-chan time.Time // fires when the stream has lasted long enough
	atEnd     error            // what to end it with then
	status    streamStatus

	leave   chan struct{} // closed when the stream is to end in good order
	leaving bool          // whether it is; under Server.mu
}

// subscription is what a stream wants and has of one type.
type subscription struct {
	typeURL string
	feed    *feed
	// sent is what was sent last; nil before the first answer.
	sent *snapshot
	// clientHas is what the client says it has from an earlier stream, until
	// the first answer.
	clientHas map[string]string
	// mustAnswer: the client waits for an answer even if there is nothing new.
	mustAnswer bool
	// resend are names that the client asked for once more.
	resend []string
	// lateRemovals wait until all other types are pushed: a cluster goes after
	// the last route that names it.
	lateRemovals []string
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
	if s.stopping.Load() {
		return errStopping
	}
	node, err := s.admit(ctx)
	if err != nil {
		return err
	}

	node.Delta = !w.sotw()
	left, atEnd := life(ctx, s.cfg.MaxAge, time.Now())
	st := &stream{srv: s, ctx: ctx, node: node, wire: w, connected: time.Now(), atEnd: atEnd, leave: make(chan struct{})}
	over := time.NewTimer(left)
	defer over.Stop()
	st.over = over.C

	requests, ended := receive(ctx, recv)
	first, err := st.first(requests, ended)
	if first == nil {
		return err
	}
	if err := st.open(first.node); err != nil {
		s.cfg.Logger.Warn("stream refused", "peer", node.Peer.String(), "error", err)
		return err
	}
	defer st.close()

	if err := st.handle(first); err != nil {
		return err
	}
	return st.loop(requests, ended)
}

// receive reads requests on a goroutine of its own, until the stream or ctx ends.
func receive(ctx context.Context, recv func() (*request, error)) (<-chan *request, <-chan error) {
	requests, ended := make(chan *request), make(chan error, 1)
	go func() {
		for {
			r, err := recv()
			if err == nil {
				err = r.check()
			}
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
	return requests, ended
}

// first waits for the first request, though not for long: a stream that says
// nothing costs as much as one that does. It is nil when none came.
func (st *stream) first(requests <-chan *request, ended <-chan error) (*request, error) {
	patience := time.NewTimer(st.srv.cfg.FirstRequest)
	defer patience.Stop()
	select {
	case r := <-requests:
		return r, nil
	case <-patience.C:
		return nil, status.Errorf(codes.DeadlineExceeded, "no request came within %s", st.srv.cfg.FirstRequest)
	case err := <-ended:
		return nil, refusal(err)
	case <-st.over:
		return nil, st.atEnd
	case <-st.srv.stop:
		return nil, errStopping
	}
}

// refusal is the error to end a stream with whose requests have ended: what is
// wrong with the last one, or nothing when the proxy has gone.
func refusal(err error) error {
	switch status.Code(err) {
	case codes.InvalidArgument, codes.ResourceExhausted: // by check, and by gRPC for its size
		return err
	}
	return nil
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
	st.srv.cfg.Logger.Info("proxy connected", "node", st.node.ID.String(), "identity", st.node.Identity.String(), "view", v.Key())
	return nil
}

func (st *stream) close() {
	st.srv.drop(st)
	for _, sub := range st.subs {
		st.group.release(sub.feed)
	}
	st.srv.leave(st.group)
	st.srv.cfg.Logger.Info("proxy disconnected", "node", st.node.ID.String())
}

func (st *stream) loop(requests <-chan *request, ended <-chan error) error {
	for {
		// Before the push: what comes after it wakes the stream again.
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
		case err := <-ended:
			return refusal(err)
		case <-st.over:
			return st.atEnd
		case <-st.leave:
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

	// All feeds of the new View are taken before one of the old is given back:
	// the stream stays as it is when one cannot be built.
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
	st.srv.cfg.Logger.Info("proxy changed its view", "node", st.node.ID.String(), "view", v.Key())
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
	if err := st.roomFor(nil, names.key); err != nil {
		return err
	}
	f, err := st.group.take(typeURL, names.key, func() *nameSet { return names })
	if err != nil {
		return viewError(err)
	}
	sub := &subscription{typeURL: typeURL, feed: f, clientHas: have, mustAnswer: names.key.all || names.key.n > 0}
	st.subs = append(st.subs, sub)
	slices.SortStableFunc(st.subs, func(a, b *subscription) int { return xds.Rank(a.typeURL) - xds.Rank(b.typeURL) })
	return nil
}

// exchange gives a subscription another set of names.
func (st *stream) exchange(sub *subscription, key nameKey, names func() *nameSet) error {
	if key == sub.feed.key.names {
		return nil
	}
	if err := st.roomFor(sub, key); err != nil {
		return err
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
	name := xds.Short(sub.typeURL)
	if r.rejected {
		why := reason(r.nack)
		st.srv.metrics.rejects.WithLabelValues(labelType(sub.typeURL)).Inc()
		st.srv.cfg.Logger.Warn("proxy refused an update", "type", name, "node", st.node.ID.String(), "reason", why)
		st.status.refused(name, why)
		return
	}
	if !sub.noticed.IsZero() {
		st.srv.metrics.convergence.Observe(time.Since(sub.noticed).Seconds())
	}
	st.status.acked(name, r.nonce)
}
