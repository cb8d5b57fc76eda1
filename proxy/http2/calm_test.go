package http2

import (
	"testing"
	"time"
)

func TestAllowance(t *testing.T) {
	now := time.Unix(1000, 0)
	a := newAllowance(10, 2, now)
	if !a.spend(10) || a.spend(1) {
		t.Fatal("10 are there at the beginning, and no more")
	}
	a.refill(now.Add(400 * time.Millisecond)) // worth less than one
	a.refill(now.Add(600 * time.Millisecond)) // parts add up
	if !a.spend(1) || a.spend(1) {
		t.Error("0.6 s at 2 in a second are worth 1")
	}
	a.earn(100)
	if !a.spend(10) || a.spend(1) {
		t.Error("more than the most was earned")
	}
	a.refill(now.Add(1e6 * time.Hour))
	if !a.spend(10) || a.spend(1) {
		t.Error("more than the most came back")
	}
}
