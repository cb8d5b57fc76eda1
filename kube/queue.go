package kube

import (
	"sync"

	"github.com/isthmus-mesh/isthmus/internal/wake"
)

// kind tells which informer an object is of.
type kind uint8

const (
	kindService kind = iota
	kindSlice
	kindPod
	kindNode
	kindNamespace
	kindMesh
	kindEntry
	kindDestination
	kindVirtual
	kindSidecar
	kindPeer
	kindAuthorization
	kindAuthentication
	kindGateway
	// kindRange is a ServiceCIDR: where Services' addresses come from.
	kindRange
	kindExport
	// kindSecret is a Secret of the control plane's namespace.
	kindSecret
)

// ref names an object that changed.
type ref struct {
	kind      kind
	namespace string
	name      string
}

// queue gathers changed objects until they are taken, all at once: a burst of
// events becomes one write.
type queue struct {
	mu   sync.Mutex
	refs map[ref]struct{}
	some wake.Signal
}

func newQueue() *queue {
	return &queue{refs: map[ref]struct{}{}, some: wake.NewSignal()}
}

func (q *queue) add(r ref) {
	q.mu.Lock()
	q.refs[r] = struct{}{}
	q.mu.Unlock()
	q.some.Send()
}

// take empties the queue.
func (q *queue) take() map[ref]struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	refs := q.refs
	q.refs = make(map[ref]struct{}, len(refs)/2)
	return refs
}
