// Package wake wakes a goroutine that waits for work.
package wake

// Signal tells that there is something to do. However often it is sent before it
// is received, it is received once: who receives it looks at all that there is.
// Receive from it as from any channel. It is made by NewSignal and never closed.
type Signal chan struct{}

// NewSignal makes a Signal that is not sent yet.
func NewSignal() Signal { return make(Signal, 1) }

// Send never waits. What the sender did before is seen by who receives.
func (s Signal) Send() {
	select {
	case s <- struct{}{}:
	default:
		// One that nobody has received yet says the same.
	}
}
