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
	return config.Share(rand.Uint32N(uint32(config.Whole))) < s
}
