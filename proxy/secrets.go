package proxy

import (
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// applySecretsLocked replaces secrets: the next handshake meets the new one, and
// connections that are open go on. One that is gone is shown to nobody any more.
func (p *Proxy) applySecretsLocked(add []*config.Secret, removed []string) {
	for _, s := range add {
		p.Secret(s.Name).Store(s)
	}
	for _, name := range removed {
		if slot := p.secrets[name]; slot != nil {
			slot.Store(nil)
		}
	}
}

// Secret implements mtls.Secrets. It is called while a listener is put in force, that is
// from Apply, which holds mu.
func (p *Proxy) Secret(name string) *config.SecretSlot {
	s := p.secrets[name]
	if s == nil {
		s = &config.SecretSlot{}
		p.secrets[name] = s
	}
	return s
}

// updateWantedSecretsLocked works out which secrets listeners need, and forgets those that
// nobody refers to any more.
func (p *Proxy) updateWantedSecretsLocked(listeners []*config.Listener) {
	wanted := map[string]bool{}
	for _, l := range listeners {
		for _, n := range l.SecretNames() {
			wanted[n] = true
		}
	}
	p.wantSecrets = slices.Sorted(maps.Keys(wanted))
	maps.DeleteFunc(p.secrets, func(n string, _ *config.SecretSlot) bool { return !wanted[n] })
}
