package serve

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
	"unicode"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/xds"
)

// What one stream may say and keep. Whoever opened it, proven or not, is held to
// it; the sizes are some ten times what a proxy of a mesh of ten thousand
// services comes to.
const (
	// maxTypes is how many types one stream may name, and maxTypeURL the
	// length of such a name in bytes.
	maxTypes   = 16
	maxTypeURL = 256
	// maxName is the length in bytes of the name of a resource, and
	// maxNameBytes of all names that a stream subscribes to, taken together.
	maxName      = 1024
	maxNameBytes = 8 << 20
	// maxNodeID, maxNode and maxMetadata bound, in bytes, what a proxy says
	// of itself. An Envoy lists its extensions there, some 80 KiB; they are
	// not kept.
	maxNodeID   = 1024
	maxNode     = 256 << 10
	maxMetadata = 64 << 10
	// maxReason is how much in bytes is kept and logged of a proxy's reason
	// to refuse an update.
	maxReason = 1024
)

// check refuses a request that is larger than any proxy's.
func (r *request) check() error {
	if len(r.typeURL) > maxTypeURL {
		return status.Errorf(codes.InvalidArgument, "the type URL has %d bytes, more than %d", len(r.typeURL), maxTypeURL)
	}
	for _, names := range [][]string{r.subscribe, r.unsubscribe} {
		for _, n := range names {
			if len(n) > maxName {
				return status.Errorf(codes.InvalidArgument, "the name of a resource has %d bytes, more than %d", len(n), maxName)
			}
		}
	}
	return nil
}

// roomFor refuses a set of names that would make the stream's names too many.
// sub is the subscription that it is for; nil when that is new.
func (st *stream) roomFor(sub *subscription, key nameKey) error {
	bytes := key.bytes
	for _, other := range st.subs {
		if other != sub {
			bytes += other.feed.key.names.bytes
		}
	}
	if bytes > maxNameBytes {
		return status.Errorf(codes.ResourceExhausted, "the stream subscribes to names of more than %d MiB", maxNameBytes>>20)
	}
	return nil
}

// trim gives what is kept of a node: an Envoy says much more than is looked at,
// and it would stay for as long as the stream.
func trim(core *corev3.Node) (*corev3.Node, error) {
	switch id := core.GetId(); {
	case id == "":
		return nil, status.Error(codes.InvalidArgument, "the first request has no node id")
	case len(id) > maxNodeID:
		return nil, status.Errorf(codes.InvalidArgument, "the node id has %d bytes, more than %d", len(id), maxNodeID)
	case strings.ContainsFunc(id, unicode.IsControl):
		return nil, status.Errorf(codes.InvalidArgument, "the node id %q holds control characters", id)
	}
	if n := proto.Size(core); n > maxNode {
		return nil, status.Errorf(codes.InvalidArgument, "the node has %d bytes, more than %d", n, maxNode)
	}
	if n := proto.Size(core.GetMetadata()); n > maxMetadata {
		return nil, status.Errorf(codes.InvalidArgument, "the node's metadata have %d bytes, more than %d: fewer or shorter labels and annotations make them smaller", n, maxMetadata)
	}
	kept := &corev3.Node{Id: core.GetId(), Metadata: core.GetMetadata(), Locality: core.GetLocality()}
	if slices.Contains(core.GetClientFeatures(), xds.FeatureVirtualHosts) {
		kept.ClientFeatures = []string{xds.FeatureVirtualHosts}
	}
	return kept, nil
}

// reason makes a proxy's text fit for a log line and a page: one line, not too
// long.
func reason(text string) string {
	cut := ""
	if len(text) > maxReason {
		cut = fmt.Sprintf("… (%d bytes)", len(text))
		text = text[:maxReason]
	}
	// What was cut in the middle, or never was UTF-8, is left out.
	text = strings.ToValidUTF8(text, "")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text) + cut
}

// errExpired ends a stream whose caller is not proven any more.
var errExpired = status.Error(codes.Unauthenticated, "the client certificate has expired: connect again with the renewed one")

// life is how long a stream may last, and the error with which it ends then: none
// at the end of its age, for the proxy to connect anew, perhaps to another
// replica; the age is spread over a fifth, so that a fleet that came together
// does not come back together. A client certificate ends its stream with itself.
func life(ctx context.Context, age time.Duration, now time.Time) (time.Duration, error) {
	left := time.Duration(float64(age) * (0.8 + 0.2*rand.Float64()))
	p, ok := peer.FromContext(ctx)
	if !ok {
		return left, nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return left, nil
	}
	var ended error
	for _, c := range info.State.VerifiedChains[0] {
		if valid := c.NotAfter.Sub(now); valid < left {
			left, ended = valid, errExpired
		}
	}
	return left, ended
}
