package serve

import (
	"slices"
	"strconv"

	"github.com/isthmus-mesh/isthmus/xds"
)

// push sends what is new, type by type, in order. A type that has news but may
// not send them, because its last answer is not acknowledged yet, holds back
// those after it: they may refer to the news. Removals of clusters and endpoints
// come when nothing else is left.
func (st *stream) push() error {
	for _, sub := range st.subs {
		if sub.nonce != "" {
			if sub.sent != st.group.current(sub.feed) {
				return nil
			}
			continue
		}
		if err := st.pushType(sub); err != nil {
			return err
		}
	}

	for _, sub := range st.subs {
		if sub.nonce != "" || len(sub.lateRemovals) == 0 {
			continue
		}
		removed := sub.lateRemovals
		sub.lateRemovals = nil
		if err := st.send(sub, sub.sent, &payload{}, removed); err != nil {
			return err
		}
	}
	return nil
}

// pushType sends one type's news, if there are any.
func (st *stream) pushType(sub *subscription) error {
	cur := st.group.current(sub.feed)
	if sub.sent == cur && !sub.mustAnswer && len(sub.resend) == 0 {
		return nil
	}

	p := st.news(sub, cur)
	first := sub.sent == nil
	sub.sent, sub.clientHas, sub.resend = cur, nil, nil
	removed := p.removed
	if !st.wire.sotw() && st.deferred(sub, first) {
		sub.postpone(cur, removed)
		removed = nil
	}

	if p.count == 0 && len(removed) == 0 && !sub.mustAnswer && !(st.wire.sotw() && len(p.removed) > 0 && wholeState(sub.typeURL)) {
		return nil
	}
	sub.mustAnswer = false
	return st.send(sub, cur, p, removed)
}

// deferred tells whether removals of this subscription wait. Those of a first
// answer are about names that never were, and do not.
func (st *stream) deferred(sub *subscription, first bool) bool {
	return !first && (sub.typeURL == xds.TypeCluster || sub.typeURL == xds.TypeEndpoint)
}

// postpone adds removals to those that wait, and drops those that have come
// back meanwhile.
func (sub *subscription) postpone(cur *snapshot, removed []string) {
	if len(sub.lateRemovals)+len(removed) == 0 {
		return
	}
	all := append(sub.lateRemovals, removed...)
	slices.Sort(all)
	all = slices.Compact(all)
	sub.lateRemovals = slices.DeleteFunc(all, func(n string) bool {
		return cur.res.Get(n) != nil || !cur.names.has(n)
	})
}

// wholeState tells the types of which a proxy that gives no names wants all, and a
// state-of-the-world answer holds everything, so that what is missing is gone.
func wholeState(typeURL string) bool {
	return typeURL == xds.TypeCluster || typeURL == xds.TypeListener || typeURL == xds.TypeNameTable
}

// news works out the answer from what the client has to cur. The common cases
// are shared between streams; the others are this stream's own.
func (st *stream) news(sub *subscription, cur *snapshot) *payload {
	sotw := st.wire.sotw()
	switch {
	case sotw && wholeState(sub.typeURL):
		p := *cur.all(true)
		if sub.sent != nil {
			// Only to know whether something has gone.
			_, p.removed = cur.diff(sub.sent)
		}
		return &p
	case sub.sent == nil && len(sub.clientHas) > 0:
		p := &payload{}
		changed, removed := cur.diffVersions(sub.clientHas)
		p.removed, p.count = removed, len(changed)
		p.encode(changed, sotw)
		return p
	case len(sub.resend) > 0:
		return sub.newsAgain(cur, sotw)
	}
	return cur.from(sub.sent, sotw)
}

// newsAgain is the difference, and with it the names that were asked for again,
// changed or not.
func (sub *subscription) newsAgain(cur *snapshot, sotw bool) *payload {
	p := &payload{}
	changed, removed := cur.diff(sub.sent)
	listed := make(map[string]bool, len(changed))
	for _, r := range changed {
		listed[r.Name] = true
	}
	again := keyless(sub.typeURL, sub.resend)
	for name, r := range cur.res.All() {
		if again.has(name) && !listed[name] {
			changed = append(changed, r)
		}
	}
	sortByName(changed)
	for _, n := range again.without(cur.res) {
		if !slices.Contains(removed, n) {
			removed = append(removed, n)
		}
	}
	p.removed, p.count = removed, len(changed)
	p.encode(changed, sotw)
	return p
}

// send writes one answer.
func (st *stream) send(sub *subscription, cur *snapshot, p *payload, removed []string) error {
	size := len(p.added)
	if st.wire.sotw() {
		size = len(p.bodies)
	}

	st.counter++
	nonce := strconv.FormatUint(st.counter, 36)
	name := xds.Short(sub.typeURL)
	sub.nonce, sub.lastSent, sub.noticed = nonce, nonce, cur.since
	st.status.sent(name, nonce, cur.id, cur.res.Len())
	if err := st.wire.send(sub, nonce, cur, p, removed); err != nil {
		return err
	}

	label := labelType(sub.typeURL)
	st.srv.metrics.pushes.WithLabelValues(label).Inc()
	st.srv.metrics.bytes.WithLabelValues(label).Add(float64(size))
	return nil
}
