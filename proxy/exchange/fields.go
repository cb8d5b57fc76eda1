package exchange

import (
	"math/rand/v2"
	"strings"

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
	// Drop removes all fields of a name.
	Drop(name string)
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
	edit(f, r.DropRequest, r.Request)
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
	if _, has := f.Lookup(forwardedProto); !has {
		f.Add(forwardedProto, edge.Scheme)
	}
	if hcm.GenerateRequestID {
		if _, has := f.Lookup(requestID); !has {
			f.AddRequestID(newRequestID())
		}
	}
}

// edit sets or drops x-forwarded-client-cert.
func (c *ClientCert) edit(f Fields) {
	switch {
	case !c.Keep:
		f.Drop(xfcc)
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

// EditResponse makes of the fields that came those for the caller.
func EditResponse(f Fields, r *routes.Route, hcm *config.HCM) {
	f.Drop(FailedField)
	if hcm.ServerName != "" {
		if _, has := f.Lookup("server"); !has || !hcm.ServerPassThrough {
			f.Drop("server")
			f.Add("server", hcm.ServerName)
		}
	}
	edit(f, r.DropResponse, r.Response)
}

// edit applies what a route configuration asks for.
func edit(f Fields, drop []string, add []config.HeaderEdit) {
	for _, name := range drop {
		f.Drop(name)
	}
	for i := range add {
		e := &add[i]
		name := strings.ToLower(e.Name)
		if e.IfAbsent {
			if _, has := f.Lookup(name); has {
				continue
			}
		}
		if !e.Append {
			f.Drop(name)
		}
		f.Add(e.Name, e.Value)
	}
}

// newRequestID returns a random UUID (RFC 9562 version 4).
func newRequestID() (out [36]byte) {
	hi, lo := rand.Uint64(), rand.Uint64()
	hi = hi&^0xf000 | 0x4000
	lo = lo&^(0xc000<<48) | 0x8000<<48
	const digits = "0123456789abcdef"
	n := 0
	for i := range 32 {
		if i == 8 || i == 12 || i == 16 || i == 20 {
			out[n] = '-'
			n++
		}
		word := hi
		if i >= 16 {
			word = lo
		}
		out[n] = digits[word>>(60-4*(i%16))&0xf]
		n++
	}
	return out
}
