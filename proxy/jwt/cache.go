package jwt

import (
	"crypto/sha256"
	"sync"
)

// cacheSize is how many tokens a Verifier remembers at most, some kB each.
const cacheSize = 2048

type digest [sha256.Size]byte

func digestOf(token string) digest { return sha256.Sum256([]byte(token)) }

type cacheKey struct {
	provider int
	token    digest
}

// cache remembers verified tokens; those whose time is over are refused all the same when
// they come again (verified.refusedAt). It has two generations: when the younger one is
// full, the older one is forgotten, but for what was asked for meanwhile. It is safe for
// concurrent use.
type cache struct {
	most int // of a generation

	mu         sync.Mutex
	young, old map[cacheKey]*verified
}

func newCache(most int) *cache {
	return &cache{most: most / 2, young: map[cacheKey]*verified{}}
}

// get returns nil for a token that is not known.
func (c *cache) get(k cacheKey) *verified {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.young[k]; t != nil {
		return t
	}
	t := c.old[k]
	if t != nil {
		c.putLocked(k, t)
	}
	return t
}

func (c *cache) put(k cacheKey, t *verified) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.putLocked(k, t)
}

func (c *cache) putLocked(k cacheKey, t *verified) {
	if len(c.young) >= c.most {
		c.young, c.old = make(map[cacheKey]*verified, c.most), c.young
	}
	c.young[k] = t
}
