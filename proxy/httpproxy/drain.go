package httpproxy

import "sync"

// drainer is a connection that can be asked to end.
type drainer interface{ drain() }

// drainGroups tells the connections that share a drain channel when it closes, with one goroutine per channel
// instead of one per connection.
type drainGroups struct {
	mu     sync.Mutex
	groups map[<-chan struct{}]*drainGroup
}

type drainGroup struct {
	members map[drainer]struct{}
	empty   chan struct{} // closed when the last member has left
	begun   bool
}

// join adds d to the group of ch. When ch is closed already, d is asked to end at once.
func (g *drainGroups) join(ch <-chan struct{}, d drainer) {
	if ch == nil {
		return
	}
	g.mu.Lock()
	group := g.groups[ch]
	if group == nil {
		group = &drainGroup{members: map[drainer]struct{}{}, empty: make(chan struct{})}
		g.groups[ch] = group
		go g.wait(ch, group)
	}
	group.members[d] = struct{}{}
	begun := group.begun
	g.mu.Unlock()
	if begun {
		d.drain()
	}
}

// leave removes d, which must have joined.
func (g *drainGroups) leave(ch <-chan struct{}, d drainer) {
	if ch == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	group := g.groups[ch]
	delete(group.members, d)
	if len(group.members) == 0 {
		delete(g.groups, ch)
		close(group.empty)
	}
}

func (g *drainGroups) wait(ch <-chan struct{}, group *drainGroup) {
	select {
	case <-group.empty:
		return
	case <-ch:
	}
	g.mu.Lock()
	group.begun = true
	members := make([]drainer, 0, len(group.members))
	for d := range group.members {
		members = append(members, d)
	}
	g.mu.Unlock()
	for _, d := range members {
		d.drain()
	}
}
