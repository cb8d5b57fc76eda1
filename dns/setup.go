package dns

import (
	"strconv"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
)

// defaultTTL in seconds. Answers are cheap to ask for again, and a moved
// address should not linger.
const defaultTTL = 5

// setup returns the directive's parser for a process whose names are given:
//
//	isthmus [ZONE...] {
//	    ttl SECONDS
//	}
//
// Without zones, those of the server block are taken.
func setup(names *Names) caddy.SetupFunc {
	return func(c *caddy.Controller) error {
		r, err := parse(c)
		if err != nil {
			return plugin.Error(pluginName, err)
		}
		r.Names = names
		dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler {
			r.Next = next
			return r
		})
		return nil
	}
}

func parse(c *caddy.Controller) (*Resolver, error) {
	r := &Resolver{TTL: defaultTTL}
	for n := 0; c.Next(); n++ {
		if n > 0 {
			return nil, plugin.ErrOnce
		}

		r.Zones = plugin.OriginsFromArgsOrServerBlock(c.RemainingArgs(), c.ServerBlockKeys)
		for c.NextBlock() {
			switch c.Val() {
			case "ttl":
				args := c.RemainingArgs()
				if len(args) != 1 {
					return nil, c.ArgErr()
				}
				ttl, err := strconv.ParseUint(args[0], 10, 32)
				if err != nil || ttl > 3600 {
					return nil, c.Errf("ttl %q is not a number of seconds between 0 and 3600", args[0])
				}
				r.TTL = uint32(ttl)
			default:
				return nil, c.Errf("unknown property %q; the only one is ttl", c.Val())
			}
		}
	}

	return r, nil
}
