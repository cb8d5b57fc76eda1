package serve

import (
	"context"
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/xds"
)

// Resource is built and encoded once, and sent to many. It is never written
// after it has been handed to the server.
type Resource struct {
	Name string
	// Version is a hash of Body: it stays the same while the bytes do,
	// across restarts and replicas, so that a reconnecting proxy is sent only
	// differences.
	Version string
	Body    *anypb.Any
}

// Node is what a stream says of itself, together with what was proven.
type Node struct {
	// ID is what the id in Core says.
	ID       xds.NodeID
	Core     *corev3.Node
	Identity identity.ID
	// Cluster is the one that was proven, too; "" when none was.
	Cluster string
	Peer    netip.AddrPort
	// Delta tells that the stream is of the delta form of the protocol.
	Delta bool
}

// View is what a proxy sees. Many streams share one. Its methods are called
// from several goroutines.
type View interface {
	// Resources returns the resources of a type by name: those of names, or
	// all when names is nil. Names that do not exist are left out. Virtual hosts
	// go by the names of their route configurations (xds.SubscribedAs). changed
	// is closed when the answer may have become another one; with it the
	// answer is consistent, that is, no change between the two is missed. The
	// Set that came of the one before, by Set.With, is compared with it quickly.
	//
	// A type that the View never has gives an empty map and no error.
	Resources(typeURL string, names []string) (res Set, changed <-chan struct{}, err error)

	// Key names the View. Two Views with the same Key are the same View.
	Key() string
}

// Source maps a node to its View. changed is closed when the mapping itself may
// have changed, for instance because a pod's labels did: the server then asks
// again. View may block until the first synchronisation is done (or ctx ends);
// an error ends the stream, with the code of a gRPC status error kept.
type Source interface {
	View(ctx context.Context, n Node) (v View, changed <-chan struct{}, err error)
}

// Authenticator proves the caller of a stream: by its verified client
// certificate, by a token in the metadata, or by both. Its errors are gRPC status
// errors and are sent to the caller.
type Authenticator interface {
	Authenticate(ctx context.Context) (identity.Proof, error)
}
