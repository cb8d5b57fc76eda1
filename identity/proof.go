package identity

import (
	"context"

	"google.golang.org/grpc/metadata"
)

// Proof is who a caller is, as far as it has proven that.
type Proof struct {
	ID ID
	// Cluster is the one whose API server has confirmed the caller's token; ""
	// when the caller has proven itself by a certificate alone, which says nothing
	// of clusters: all of a mesh have one root.
	Cluster string
}

// ClusterMetadata is the key of the gRPC metadata by which a proxy says which
// cluster its token is of, as Istio's agent has it.
const ClusterMetadata = "clusterid"

// WithCluster adds the cluster's name to the metadata of outgoing calls; without a
// name, ctx comes back as it is.
func WithCluster(ctx context.Context, cluster string) context.Context {
	if cluster == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, ClusterMetadata, cluster)
}
