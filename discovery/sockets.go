package discovery

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
)

// sockets are what a control plane listens on; nil is not served.
type sockets struct {
	xds, plainXDS, webhooks, monitoring, readiness net.Listener
}

// listen opens the sockets, bounded; all of them or none.
func listen(at Addresses) (*sockets, error) {
	s := &sockets{}
	var lc net.ListenConfig
	for _, l := range []struct {
		into *net.Listener
		addr string
	}{
		{&s.xds, at.XDS},
		{&s.plainXDS, at.PlainXDS},
		{&s.webhooks, at.Webhooks},
		{&s.monitoring, at.Monitoring},
		{&s.readiness, at.Readiness},
	} {
		if l.addr == "" {
			continue
		}
		listener, err := lc.Listen(context.Background(), "tcp", l.addr)
		if err != nil {
			s.close()
			return nil, fmt.Errorf("listen on %s: %w; name another address", l.addr, err)
		}
		*l.into = boundConns(listener, maxConns, maxConnsPerPeer)
	}
	return s, nil
}

// close closes the sockets; those of servers that have ended are closed
// already.
func (s *sockets) close() {
	for _, l := range []net.Listener{s.xds, s.plainXDS, s.webhooks, s.monitoring, s.readiness} {
		if l != nil {
			_ = l.Close()
		}
	}
}

func (s *sockets) addresses() Addresses {
	at := func(l net.Listener) string {
		if l == nil {
			return ""
		}
		return l.Addr().String()
	}
	return Addresses{
		XDS: at(s.xds), PlainXDS: at(s.plainXDS), Webhooks: at(s.webhooks),
		Monitoring: at(s.monitoring), Readiness: at(s.readiness),
	}
}

// tlsListener wraps a listener; nil stays nil.
func tlsListener(l net.Listener, c *tls.Config) net.Listener {
	if l == nil {
		return nil
	}
	return tls.NewListener(l, c)
}
