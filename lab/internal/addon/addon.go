// Package addon holds what every cluster of a lab is born with: its name
// server, and the address under which others reach its API server. It renders
// manifests and applies none.
package addon

import (
	_ "embed"
	"encoding/base64"
	"strings"

	"github.com/isthmus-mesh/isthmus/lab/internal/plan"
	"github.com/isthmus-mesh/isthmus/lab/internal/release"
)

//go:embed cluster.yaml
var cluster string

// CoreDNSImage is the image of the clusters' name server.
const CoreDNSImage = "docker.io/isthmus-lab/coredns:" + release.CoreDNSVersion

// DeploymentPath is where the API server keeps the object that Manifest lists
// last: once it exists, all exist.
const DeploymentPath = "/apis/apps/v1/namespaces/kube-system/deployments/coredns"

// Manifest renders the objects of a cluster; ca is its authority as PEM.
func Manifest(c plan.Cluster, ca []byte) string {
	return strings.NewReplacer(
		"${API_ADDRESS}", c.APIAddr().String(),
		"${CA}", base64.StdEncoding.EncodeToString(ca),
		"${DNS_IP}", c.DNSServiceIP().String(),
		"${COREDNS_IMAGE}", CoreDNSImage,
	).Replace(cluster)
}
