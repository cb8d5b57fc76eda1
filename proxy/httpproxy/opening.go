package httpproxy

import (
	"context"
	"errors"
	"slices"

	"github.com/isthmus-mesh/isthmus/proxy/downstream"
	"github.com/isthmus-mesh/isthmus/proxy/http2"
	"github.com/isthmus-mesh/isthmus/proxy/upstream"
)

// opening is the wait of a request for a connection to an endpoint, and, when that one is late, to others beside it.
type opening struct {
	server *Server
	call   *call
	info   *downstream.Info
	ep     *upstream.Endpoint
	h2     bool    // the connection is to be for HTTP/2
	fresh  bool    // of HTTP/1 it must be one that no request has used yet
	place  *waiter // of HTTP/1: in the queue of ep
}

// link is a connection to an endpoint, for one version of HTTP.
type link struct {
	h1 *h1conn
	h2 *http2.Conn
}

// errTardy says that a connection is late, see upstream.Endpoint.Late.
var errTardy = errors.New("the endpoint takes longer than usual to connect")

// run returns a connection and its endpoint, which is ep as a rule. Errors are those of upstream.Endpoint.Dial and the
// cause of ctx, and are of the endpoint that is returned.
func (o *opening) run(ctx context.Context) (*upstream.Endpoint, link, error) {
	conn, err := o.await(ctx, o.ep, o.ep.Late())
	if !errors.Is(err, errTardy) {
		return o.ep, conn, err
	}

	race := upstream.Race[link]{
		Open: func(ctx context.Context, e *upstream.Endpoint) (link, error) { return o.await(ctx, e, nil) },
		Next: o.beside,
		Spare: func(_ *upstream.Endpoint, conn link) {
			if conn.h1 != nil { // those for HTTP/2 are in their pool already
				conn.h1.pool.giveBack(conn.h1)
			}
		},
	}
	f := race.Run(ctx, o.ep)
	o.call.tried = append(o.call.tried, f.Failed...)
	return f.Endpoint, f.Conn, f.Err
}

// await waits for a connection to one endpoint, or until late says that it is.
func (o *opening) await(ctx context.Context, ep *upstream.Endpoint, late <-chan struct{}) (conn link, err error) {
	pool := o.server.pool(ep)
	if o.h2 {
		conn.h2, err = pool.h2.get(ctx, late)
		return conn, err
	}

	var w *waiter
	if ep == o.ep {
		w = o.place // the place in the queue is kept when a race begins
	}
	if w == nil {
		if w, err = pool.join(o.fresh); err != nil {
			return link{}, err
		}
	}
	if ep == o.ep {
		o.place = w
	}
	conn.h1, err = pool.await(ctx, w, late)
	return conn, err
}

// beside returns an endpoint that is worth being asked beside those that are late, of the next priority where enough of a
// place are. It returns nil where there is none.
func (o *opening) beside(asked []*upstream.Endpoint) *upstream.Endpoint {
	c := o.call
	ep, err := c.cluster.Pick(upstream.Hint{
		OriginalDst: o.info.Local,
		Tried:       slices.Concat(c.tried, asked),
		Leave:       c.leave || upstream.PlaceIsLate(asked),
		Healthy:     true,
		Hash:        c.Hash,
	})
	if err != nil {
		return nil
	}
	return ep
}
