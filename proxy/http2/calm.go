package http2

import (
	"time"

	"golang.org/x/net/http2"
)

// What a peer may ask of us that moves nothing forward (RFC 9113 section 10.5). Each such frame takes from an
// allowance; time and work that does move something give back. A peer that means well does not come near the end of
// it: gRPC sends a PING for each burst of data at most, receivers a few WINDOW_UPDATEs for each frame of data, and a
// caller whose deadlines strike gives up no more requests than it has.
const (
	// chatterMost is how many idle frames a peer may send at once, chatterRate how many more each second.
	chatterMost, chatterRate = 10_000, 100
	// What a frame costs that is dearer to us than one that is only read.
	costSettings  = 20 // walks all streams
	costFragment  = 20 // a small part of a header block: what came of the block so far is copied again
	costLargeHead = 50
	costNoStream  = 2 // needs an answer
	// What work gives back.
	earnSent, earnReceived, earnStream = 20, 2, 10

	// resetMost is how many requests a caller may make us give up at once, in half resets, and resetRate how many
	// more each second; each finished one gives half a reset back. It counts whoever sends the RST_STREAM: the
	// caller soon after its request (CVE-2023-44487), or we because of what the caller sent (CVE-2025-8671).
	resetMost, resetRate = 1000, 200
	costReset            = 2
	earnFinished         = 1
	// prematureReset is how soon a request must be taken back to count.
	prematureReset = time.Second

	// smallFragment is the size below which parts of a header block that are not its last cost something.
	smallFragment = 1 << 10
	// MaxSettings bounds the entries of a SETTINGS frame; there are ten of them altogether.
	MaxSettings = 100
	// maxInterim bounds the interim responses (1xx) before the final one.
	maxInterim = 100
)

// allowance is how much of something a peer may do: it is spent, comes back with time, and is earned by useful work.
type allowance struct {
	left, most int
	rate       int       // how much comes back in a second
	at         time.Time // until when that was counted
}

func newAllowance(most, rate int, now time.Time) allowance {
	return allowance{left: most, most: most, rate: rate, at: now}
}

// spend takes n and reports whether there was as much.
func (a *allowance) spend(n int) bool {
	if a.left < n {
		return false
	}
	a.left -= n
	return true
}

func (a *allowance) earn(n int) { a.left = min(a.left+n, a.most) }

// refill gives back what the time that has passed is worth.
func (a *allowance) refill(now time.Time) {
	n := int(min(now.Sub(a.at), time.Hour).Seconds() * float64(a.rate))
	if n <= 0 {
		return // the part of a second that is not worth one yet counts the next time
	}
	a.earn(n)
	a.at = now
}

// chargeLocked takes n from what the peer may ask of us without moving anything forward.
func (c *Conn) chargeLocked(n int) error {
	return spend(&c.chatter, n, "too many frames that move nothing forward")
}

// chargeResetLocked counts a request that the caller made us give up.
func (c *Conn) chargeResetLocked() error {
	if c.client { // an endpoint gets no more requests than we send
		return nil
	}
	return spend(&c.resets, costReset, "too many requests are given up")
}

// spend looks at the clock only when the allowance has run out.
func spend(a *allowance, n int, reason string) error {
	if a.spend(n) {
		return nil
	}
	a.refill(time.Now())
	if a.spend(n) {
		return nil
	}
	return connectionFault(http2.ErrCodeEnhanceYourCalm, "%s", reason)
}

// idleFrame counts a frame of which we take no further notice.
func (c *Conn) idleFrame() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.chargeLocked(1)
}
