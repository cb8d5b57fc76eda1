package http2

import (
	"net"
	"testing"
)

// TestWindowGrowsForQuickReadersOnly looks at the windows of a stream directly.
func TestWindowGrowsForQuickReadersOnly(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	for name, tt := range map[string]struct {
		quick bool
		want  int64
	}{
		"quick": {
			quick: true,
			want:  topWindow,
		},
		"slow": {
			quick: false,
			want:  BaseWindow,
		},
	} {
		c := NewClient(near, NewHeld(), ClientOptions{})
		s := c.newStreamLocked(1)
		lag := int64(0) // how much a slow reader has not taken yet
		if !tt.quick {
			lag = BaseWindow * 3 / 4
		}
		for held := int64(0); s.size < topWindow && c.intake.debt < 4<<20-(64<<10); {
			n := min(s.unread, 8<<10)
			s.unread -= n
			c.holdLocked(n)
			held += n
			if take := held - lag; take > 0 || n == 0 {
				take = max(take, 4<<10)
				s.Credit(int(take))
				held -= take
			}
		}
		if s.size != tt.want {
			t.Errorf("%s: the window is %d, want %d", name, s.size, tt.want)
		}
		if extra := s.size - BaseWindow; c.intake.extra != extra {
			t.Errorf("%s: %d bytes above the base are noted, want %d", name, c.intake.extra, extra)
		}
		c.removeLocked(s)
		if c.intake.extra != 0 {
			t.Errorf("%s: %d bytes above the base are noted of no stream", name, c.intake.extra)
		}
	}
}
