package upstream

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

const (
	// firstKnock is how soon after a failure an endpoint is knocked at; the time
	// doubles up to lastKnock.
	firstKnock = 250 * time.Millisecond
	lastKnock  = 2 * time.Second
	// gatewayKnock is how often a gateway of another network is knocked at while
	// it is used, so that its end is found before a request finds it.
	gatewayKnock = 3 * time.Second
	// knockTime bounds one attempt.
	knockTime = time.Second
	// mostGreetings is how many handshakes with one address are under way at once: one
	// gateway may stand for hundreds of clusters, and each of them asks for its own.
	mostGreetings = 4
)

// knocker finds out whether endpoints take connections, without a user's request:
// those that could not be reached, until they can be, and gateways of other
// networks all the time. One address is knocked at once, however many clusters
// have it. Endpoints with which a TLS handshake has failed have to make one: that they
// take connections says nothing of it.
type knocker struct {
	set *Set
	// reach opens a connection, and greet makes a TLS connection of one for a protocol
	// and reports a failure to the endpoint; tests set them.
	reach func(context.Context, *Endpoint) error
	greet func(context.Context, *Endpoint, config.Protocol) error

	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu    sync.Mutex // guards doors; taken after that of a cluster
	doors map[netip.AddrPort]*door
}

// door is one address.
type door struct {
	endpoints map[*Endpoint]bool
	soon      chan struct{} // an endpoint has come to be in doubt
	used      int64         // requests that had begun when it was last looked at
}

func newKnocker(s *Set) *knocker {
	k := &knocker{set: s, reach: tcpReach, greet: tlsGreet, doors: map[netip.AddrPort]*door{}}
	k.ctx, k.stop = context.WithCancel(context.Background())
	return k
}

// tcpReach opens a connection and closes it.
func tcpReach(ctx context.Context, e *Endpoint) error {
	c, err := e.connect(ctx, config.ProtocolTCP)
	if err != nil {
		return err
	}
	// A reset in place of an end: nothing lingers in TIME_WAIT on either side.
	_ = c.SetLinger(0)
	return c.Close()
}

// tlsGreet makes a TLS connection and closes it.
func tlsGreet(ctx context.Context, e *Endpoint, proto config.Protocol) error {
	c, _, err := e.dial(ctx, proto)
	if err != nil {
		return err
	}
	return c.Close()
}

// alarm has an endpoint knocked at that has come to be in doubt just now, and soon,
// however long the pause is that its address has got to. For one that is in doubt
// already it would undo the pause: each knock that fails tells of a doubt.
func (k *knocker) alarm(e *Endpoint) {
	d := k.watch(e)
	if d == nil {
		return
	}
	select {
	case d.soon <- struct{}{}:
	default: // it is known
	}
}

// watch knocks at an endpoint until it is reachable; at a gateway as long as it is
// there. It returns nil where nothing is to be found out.
func (k *knocker) watch(e *Endpoint) *door {
	if !e.addr.IsValid() || e.retired.Load() {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ctx.Err() != nil {
		return nil
	}

	d := k.doors[e.addr]
	if d == nil {
		d = &door{endpoints: map[*Endpoint]bool{}, soon: make(chan struct{}, 1)}
		k.doors[e.addr] = d
		k.wg.Add(1)
		go k.run(e.addr, d)
	}
	d.endpoints[e] = true
	return d
}

// close ends all knocking and waits for it.
func (k *knocker) close() {
	k.stop()
	k.wg.Wait()
}

// run knocks at one address until nobody wants to know any more.
func (k *knocker) run(addr netip.AddrPort, d *door) {
	defer k.wg.Done()
	pause := gatewayKnock
	for {
		t := time.NewTimer(pause/2 + rand.N(pause/2+1)) // so that proxies do not knock together
		select {
		case <-k.ctx.Done():
			t.Stop()
			return
		case <-d.soon:
			t.Stop()
			pause = firstKnock
			continue
		case <-t.C:
		}

		list, doubted, used, open := k.look(addr, d)
		if !open {
			return
		}
		switch {
		case len(list) == 0: // doubted again while it was looked at
			pause = firstKnock
			continue
		case !doubted && !used:
			pause = gatewayKnock
			continue
		case k.knock(list):
			pause = gatewayKnock
		default:
			pause = min(max(2*pause, firstKnock), lastKnock)
		}
		if doubted && pause == gatewayKnock {
			pause = lastKnock
		}
	}
}

// look drops the endpoints that nothing is to be found out about, and the door with
// the last of them: open is false then, and only then may the goroutine of the door end.
// An endpoint that came to be in doubt meanwhile relies on it, and is in the list of the
// next look. It returns the others, whether one of them is in doubt, and whether they
// were used since the last look.
func (k *knocker) look(addr netip.AddrPort, d *door) (list []*Endpoint, doubted, used, open bool) {
	k.mu.Lock()
	all := make([]*Endpoint, 0, len(d.endpoints))
	for e := range d.endpoints {
		all = append(all, e)
	}
	k.mu.Unlock()

	began := int64(0)
	var gone []*Endpoint
	for _, e := range all {
		began += e.began.Load()
		switch in := e.doubted(); { // takes the lock of its cluster, which comes before ours
		case e.retired.Load() || !in && !e.cfg.Gateway:
			gone = append(gone, e)
		default:
			list, doubted = append(list, e), doubted || in
		}
	}

	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range gone {
		if e.retired.Load() || e.health.trial.Load() != whoKnocks { // not doubted again meanwhile
			delete(d.endpoints, e)
		}
	}
	if len(d.endpoints) == 0 {
		delete(k.doors, addr)
		return nil, false, false, false
	}
	used = began != d.used
	d.used = began
	return list, doubted, used, true
}

// knock tries the address and tells its endpoints. All of them hear of a failure: a
// gateway that one cluster found dead is dead for every other. It returns whether nothing
// speaks against any of them.
func (k *knocker) knock(list []*Endpoint) bool {
	ctx, cancel := context.WithTimeout(k.ctx, min(knockTime, list[0].cluster.Config().ConnectTimeout))
	defer cancel()
	err := k.reach(ctx, list[0])
	if k.ctx.Err() != nil {
		return false
	}
	if err != nil {
		for _, e := range list {
			e.Report(outcomeConnectError)
		}
		return false
	}

	owed := map[*Endpoint]config.Protocol{}
	for _, e := range list {
		if proto, owes := e.owesHandshake(); owes {
			owed[e] = proto
		} else {
			e.reachable(provenByConnection)
		}
	}
	return k.greetAll(owed)
}

// greetAll makes a handshake with each of the endpoints, which share an address but not
// what stands behind it. It returns whether all came about.
func (k *knocker) greetAll(owed map[*Endpoint]config.Protocol) bool {
	var wg sync.WaitGroup
	var failed atomic.Bool
	turns := make(chan struct{}, mostGreetings)
	for e, proto := range owed {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			if err := k.greet(k.ctx, e, proto); err != nil {
				failed.Store(true)
				return
			}
			e.reachable(provenByHandshake)
		})
	}
	wg.Wait()
	return !failed.Load()
}
