package routes

import (
	"math/rand/v2"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// Draw tells whether one request is among a share of all.
func Draw(s config.Share) bool {
	switch s {
	case 0:
		return false
	case config.Whole:
		return true
	}
	return drawn(s, rand.Uint32N)
}

// drawn is Draw for a share that is neither none nor all, with a source of numbers below n.
func drawn(s config.Share, below func(n uint32) uint32) bool {
	return config.Share(below(uint32(config.Whole))) < s
}
