package exchange

import (
	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/routes"
)

// Fields are the header fields of a message, in whatever form an engine holds them. Names are in lower case. What was
// added is seen by Lookup, Joined and Drop like what came.
type Fields interface {
	// Lookup returns the first field of a name.
	Lookup(name string) (string, bool)
	// Joined returns all fields of a name as one list, separated by sep (RFC 9110 section 5.3), and whether there
	// are any.
	Joined(name, sep string) (string, bool)
	// Has reports whether there is a field of a name.
	Has(name Known) bool
	// Drop removes all fields of a name.
	Drop(name string)
	// DropKnown is Drop for a field that is known.
	DropKnown(name Known)
	// DropEnvoy removes the fields x-envoy-… that steer a proxy or say that a caller is one of the house: no caller
	// may set them for the application. At the edge of the mesh it removes the others as well.
	DropEnvoy(edge bool)
	// Add appends a field; its name may be in any case.
	Add(name, value string)
	// AddRequestID appends a field x-request-id. It is apart from Add because HTTP/1 can write the bytes without a
	// string being made of them.
	AddRequestID(id [36]byte)
}

// Edge is what a connection says of its caller, once for all its requests.
type Edge struct {
	Scheme string // of the connection
	Peer   string // the caller's address
	Cert   ClientCert
}

// ClientCert is what a connection decides about x-forwarded-client-cert.
type ClientCert struct {
	Keep    bool   // keep what the caller sent
	Element string // to set, or to append when Keep; empty: nothing
}

const (
	xfcc           = "x-forwarded-client-cert"
	forwardedFor   = "x-forwarded-for"
	forwardedProto = "x-forwarded-proto"
	requestID      = "x-request-id"
)

// EditRequest makes of the fields that came those for the endpoint: the route's edits first, then what the proxy says
// itself, which no route may overrule. It makes no field twice, and may be called once.
func EditRequest(f Fields, r *routes.Route, hcm *config.HCM, edge *Edge) {
	edit(f, r.Request)
	edge.Cert.edit(f)
	f.DropEnvoy(hcm.UseRemoteAddress)

	// At the edge of the mesh the caller's word about itself does not count, but the hops before it are kept.
	if hcm.UseRemoteAddress {
		hops, _ := f.Joined(forwardedFor, ", ")
		f.Drop(forwardedFor)
		f.Drop(forwardedProto)
		if hops != "" {
			hops += ", "
		}
		f.Add(forwardedFor, hops+edge.Peer)
	}
	if !f.Has(ForwardedProto) {
		f.Add(forwardedProto, edge.Scheme)
	}
	if hcm.GenerateRequestID {
		if !f.Has(RequestID) {
			f.AddRequestID(newRequestID())
		}
	}
}

// edit sets or drops x-forwarded-client-cert.
func (c *ClientCert) edit(f Fields) {
	switch {
	case !c.Keep:
		f.DropKnown(ForwardedClientCert)
		if c.Element != "" {
			f.Add(xfcc, c.Element)
		}
	case c.Element != "":
		all, has := f.Joined(xfcc, ",")
		f.Drop(xfcc)
		if has {
			all += ","
		}
		f.Add(xfcc, all+c.Element)
	}
}

// EditResponse makes of the fields that came those for the caller of an exchange.
func EditResponse(f Fields, x *Exchange, hcm *config.HCM) {
	f.DropKnown(Failed)
	if hcm.ServerName != "" && !(hcm.ServerPassThrough && f.Has(ServerField)) {
		f.DropKnown(ServerField)
		f.Add(ServerField.String(), hcm.ServerName)
	}
	edit(f, x.Route.Response)
	for _, cookie := range x.cookies {
		f.Add("set-cookie", cookie)
	}
	if x.origin != "" {
		x.allowOriginIn(f)
	}
}

// edit applies what a route configuration asks for.
func edit(f Fields, edits []routes.Edit) {
	for i := range edits {
		e := &edits[i]
		switch e.Do {
		case routes.Remove:
			f.Drop(e.Name)
			continue
		case routes.Set:
			f.Drop(e.Name)
		case routes.AddIfAbsent:
			if _, has := f.Lookup(e.Name); has {
				continue
			}
		}
		f.Add(e.Name, e.Value)
	}
}
