package httpproxy

import "time"

// pace is how many connections to one endpoint may come about at the same time. It is found out as TCP finds out how
// much a path carries (RFC 5681): while they come about quickly there may be one more for each that did, and half as
// many when one took long. A distant endpoint so gets many at once, and one that is short of processor time no more
// than it can do before somebody gives up. The zero value is ready for use.
type pace struct{ most int }

const (
	firstPace, leastPace, mostPace = 8, 2, 128
	// quickDial is how long the making of a connection takes where all is well, TLS and round trips between continents
	// included.
	quickDial = 500 * time.Millisecond
)

func (p *pace) limit() int {
	if p.most == 0 {
		return firstPace
	}
	return p.most
}

// note takes down that a dial took so long. late says that it failed by that; a refusal, which is neither good nor late,
// says nothing.
func (p *pace) note(took time.Duration, good, late bool) {
	switch {
	case late, good && took > quickDial:
		p.most = max(p.limit()/2, leastPace)
	case good:
		p.most = min(p.limit()+1, mostPace)
	}
}
