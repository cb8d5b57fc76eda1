package resources

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// stranger makes a proxy of a cluster that the mesh of the test does not read.
func stranger(kind, cluster string) serve.Node {
	n := node(kind, "istio-system", "gw-1", nil)
	n.Core.Metadata.Fields["CLUSTER_ID"] = structpb.NewStringValue(cluster)
	n.Core.Metadata.Fields["NETWORK"] = structpb.NewStringValue("network2")
	n.Identity = identity.ID{TrustDomain: "cluster.local", Namespace: "istio-system", ServiceAccount: "gw"}
	return n
}

// The gateways of a cluster that joins are ready before it is read: an
// installation waits for them, and the Secret comes after it.
func TestGatewaysOfAClusterThatJoins(t *testing.T) {
	m := newMesh(t)
	bookinfo(m)

	refused := func(n serve.Node, want string) {
		t.Helper()
		_, _, err := m.source.View(t.Context(), n)
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want a refusal with %q", err, want)
		}
	}
	refused(stranger("sidecar", "joins"), "create-remote-secret --name joins")
	nobody := stranger("router", "joins")
	nobody.Identity = identity.ID{}
	refused(nobody, "create-remote-secret --name joins")

	var held []serve.View
	for i := range maxStrangeClusters {
		held = append(held, m.view(stranger("router", fmt.Sprint("joins-", i))))
	}
	m.view(stranger("router", "joins-0")) // another gateway of one that is in
	refused(stranger("router", "one-too-many"), "gateways of 8 others")

	insert(m, m.store.Clusters, &model.Cluster{ID: "one-too-many", Synced: true})
	m.view(stranger("router", "one-too-many"))
	m.view(stranger("sidecar", "one-too-many"))
	if len(held) != maxStrangeClusters {
		t.Error("the views are not kept")
	}
}

// A certificate says nothing of clusters: a proxy is not taken for the pod of
// another account, in whichever cluster it says that it is.
func TestPodOfAnotherAccount(t *testing.T) {
	m := newMesh(t)
	bookinfo(m)
	insert(m, m.store.Clusters, &model.Cluster{ID: "c2", Synced: true})
	insert(m, m.store.Workloads, &model.Workload{Cluster: "c2", Namespace: "istio-system", Name: "gw-1", Account: "gw", TLS: true})
	insert(m, m.store.Workloads, &model.Workload{Cluster: "c2", Namespace: "istio-system", Name: "gw-2", Account: "other", TLS: true})

	m.view(stranger("sidecar", "c2"))
	unknown := stranger("sidecar", "c2")
	unknown.ID.Pod = "not-read-yet"
	m.view(unknown)

	another := stranger("sidecar", "c2")
	another.ID.Pod = "gw-2"
	if _, _, err := m.source.View(t.Context(), another); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "has the service account other") {
		t.Errorf("got %v, want a refusal", err)
	}
}
