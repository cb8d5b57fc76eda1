package http2

import "slices"

const (
	// rememberedResets is how many streams that we ended early are remembered, and rememberedGaps how many ranges
	// of identifiers that the peer passed over.
	rememberedResets = 256
	rememberedGaps   = 8
)

// closedStreams knows of streams that are no longer there what the answer to late frames depends on
// (RFC 9113 section 5.1). All others were ended by the peer.
type closedStreams struct {
	resets  []uint32 // streams that we ended early: the peer may go on sending until it learns of that
	next    int      // the oldest of them, once there are rememberedResets
	dropped uint32   // the highest of those that were forgotten
	gaps    [][2]uint32
}

// addReset notes that we ended a stream early.
func (s *closedStreams) addReset(id uint32) {
	if len(s.resets) < rememberedResets {
		s.resets = append(s.resets, id)
		return
	}
	s.dropped = max(s.dropped, s.resets[s.next])
	s.resets[s.next] = id
	s.next = (s.next + 1) % rememberedResets
}

// wasReset reports whether we ended the stream early, as far as that is remembered; maybe says that it could have
// been, and was forgotten.
func (s *closedStreams) wasReset(id uint32) (was, maybe bool) {
	was = slices.Contains(s.resets, id)
	return was, was || id <= s.dropped
}

// addGap notes that the peer opened none of the streams from first to last, and hence never may.
func (s *closedStreams) addGap(first, last uint32) {
	if len(s.gaps) == rememberedGaps {
		s.gaps = slices.Delete(s.gaps, 0, 1)
	}
	s.gaps = append(s.gaps, [2]uint32{first, last})
}

func (s *closedStreams) inGap(id uint32) bool {
	return slices.ContainsFunc(s.gaps, func(g [2]uint32) bool { return g[0] <= id && id <= g[1] })
}
