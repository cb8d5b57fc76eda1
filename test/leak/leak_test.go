package leak

import (
	"testing"
	"time"
)

// A goroutine that ends by itself, later than goleak waits, is no leak; one that
// stays is.
func TestFind(t *testing.T) {
	time.AfterFunc(0, func() { time.Sleep(700 * time.Millisecond) })
	if err := find(patience); err != nil {
		t.Errorf("a goroutine that ends after 700 ms counts as left behind: %v", err)
	}

	stay := make(chan struct{})
	go func() { <-stay }()
	if err := find(time.Millisecond); err == nil {
		t.Error("a goroutine that stays is not found")
	}
	close(stay)

	None(t)
}
