package fetch

import (
	"fmt"
	"sort"
	"strings"

	"google.golang.org/protobuf/types/known/anypb"
)

// Resource is one resource as discovery sent it. Body belongs to the handler
// from then on and is never written again.
type Resource struct {
	Name    string
	Version string
	Body    *anypb.Any
}

// Handler takes what discovery sends. The client calls Apply from one
// goroutine, so calls never overlap and come in the order of the wire; Wanted
// and WantedChanged are called from that goroutine too, but the handler may
// close the channel from any other.
type Handler interface {
	// Apply adds or replaces resources, and removes others by name, all of
	// one type. It returns once the change is in force or refused.
	//
	// A nil error acknowledges the whole update. A *RejectError names the
	// resources that were refused: all others of the update are taken as
	// applied, and the refused keep what they were before. With any other
	// error nothing was applied. Both are sent to discovery as a NACK with
	// the error's text, which names resource and field.
	//
	// An update with neither added nor removed is the answer "there is
	// nothing" to a first request: the handler may count the type as served.
	// A route configuration without virtual hosts is answered for by its name
	// in removed, of type xds.TypeVirtualHost.
	Apply(typeURL string, added []Resource, removed []string) error

	// Wanted is the set of names to subscribe to for xds.TypeEndpoint,
	// xds.TypeRoute and xds.TypeVirtualHost: those that the applied clusters and
	// listeners refer to, and of the last the names of the route configurations
	// whose virtual hosts are resources of their own (xds.SubscribedAs). It is not
	// asked for the other types, of which a proxy takes all.
	// A name that is no longer wanted is unsubscribed; the client then calls
	// no Apply for it: the handler drops it by itself.
	Wanted(typeURL string) []string

	// WantedChanged is closed when Wanted may give something else than at
	// the time of this call. The client also asks Wanted after each Apply.
	WantedChanged() <-chan struct{}
}

// RejectError tells which resources of an update were refused, and why.
type RejectError struct {
	// Reasons holds an error per refused resource, by name.
	Reasons map[string]error
}

// Error names every refused resource, in order, up to a length that fits a
// status message.
func (e *RejectError) Error() string {
	names := make([]string, 0, len(e.Reasons))
	for n := range e.Reasons {
		names = append(names, n)
	}
	sort.Strings(names)
	var b strings.Builder
	for i, n := range names {
		if b.Len() > 2048 {
			fmt.Fprintf(&b, "; and %d more", len(names)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s: %v", n, e.Reasons[n])
	}
	return b.String()
}
