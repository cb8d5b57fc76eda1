package routes

import (
	"hash/maphash"
	"maps"
)

// index finds values by name. It is immutable: an edit makes another one, which
// shares with it all shards but those in which something changed. So one of forty
// thousand domains is replaced in microseconds, while requests go on reading the
// index that they began with, without a lock; a persistent tree would cost each
// request several times as much as the two hashes that are computed here.
type index[V any] struct {
	seed   maphash.Seed
	shards []map[string]V // their number is a power of two; nil in the zero index
	n      int
}

// perShard is how many values a shard has on average when it is made, and half of
// how many it may have before there are made more. An edit copies whole shards.
const perShard = 64

// newIndex makes an empty index with room for n values.
func newIndex[V any](n int) index[V] {
	shards := 1
	for shards*perShard < n {
		shards *= 2
	}
	return index[V]{seed: maphash.MakeSeed(), shards: make([]map[string]V, shards)}
}

func (x *index[V]) shard(name string) int {
	if len(x.shards) == 1 {
		return 0
	}
	return int(maphash.String(x.seed, name) & uint64(len(x.shards)-1))
}

// get returns the value of a name, the zero value when there is none.
func (x *index[V]) get(name string) (v V) {
	if x.n == 0 {
		return v
	}
	return x.shards[x.shard(name)][name]
}

// all calls yield for each name, in no order.
func (x *index[V]) all(yield func(string, V) bool) {
	for _, shard := range x.shards {
		for name, v := range shard {
			if !yield(name, v) {
				return
			}
		}
	}
}

// edit begins another index. more is how many names will come, about: room is made
// for them at once.
func (x *index[V]) edit(more int) *indexEdit[V] {
	if x.shards == nil || x.n+more > 2*perShard*len(x.shards) {
		e := &indexEdit[V]{index: newIndex[V](x.n + more)}
		e.own = make([]bool, len(e.shards))
		for name, v := range x.all {
			e.set(name, v)
		}
		return e
	}
	e := &indexEdit[V]{index: *x, own: make([]bool, len(x.shards))}
	e.shards = append([]map[string]V(nil), x.shards...)
	return e
}

// indexEdit is an index that is being made. Once it is done it is not edited any more.
type indexEdit[V any] struct {
	index[V]
	// own tells which shards are not shared with the index before.
	own []bool
}

// writable is the shard of a name, to be written.
func (e *indexEdit[V]) writable(name string) map[string]V {
	i := e.shard(name)
	if !e.own[i] {
		e.own[i] = true
		e.shards[i] = maps.Clone(e.shards[i])
		if e.shards[i] == nil {
			e.shards[i] = map[string]V{}
		}
	}
	return e.shards[i]
}

func (e *indexEdit[V]) set(name string, v V) {
	shard := e.writable(name)
	before := len(shard)
	shard[name] = v
	e.n += len(shard) - before
}

func (e *indexEdit[V]) remove(name string) {
	shard := e.writable(name)
	before := len(shard)
	delete(shard, name)
	e.n += len(shard) - before
}
