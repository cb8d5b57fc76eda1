package clusters

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/model"
)

// LabelSecret marks the Secrets that hold kubeconfigs of other clusters.
const LabelSecret = "istio/multiCluster"

// validID is what a cluster may be called: what a label's value may be, for
// objects are labelled with it.
var validID = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)

// candidate is what one Secret says of one cluster.
type candidate struct {
	cluster model.ClusterID
	secret  *corev1.Secret
	access  *access
	// refused says why it does not count; access is nil then.
	refused error
}

// choose tells by which Secret each cluster is read, and what else the Secrets
// say, which does not count. Of two for one cluster the older one counts.
func choose(secrets []*corev1.Secret, own model.ClusterID, allowed []Option) (chosen map[model.ClusterID]candidate, refused []candidate) {
	// The API server picks them by the label, too. But what has lost it must not
	// be taken for a way to a cluster, whoever hands it here.
	secrets = slices.DeleteFunc(slices.Clone(secrets), func(s *corev1.Secret) bool { return s.Labels[LabelSecret] != "true" })
	slices.SortFunc(secrets, func(a, b *corev1.Secret) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})

	chosen = map[model.ClusterID]candidate{}
	for _, s := range secrets {
		if len(s.Data) == 0 {
			refused = append(refused, candidate{secret: s, refused: errors.New("the Secret has no data: each key is to be the name of a cluster, its value a kubeconfig")})
		}
		for _, name := range slices.Sorted(maps.Keys(s.Data)) {
			c := candidate{cluster: model.ClusterID(name), secret: s}
			c.access, c.refused = judge(name, s.Data[name], own, allowed)
			if older, taken := chosen[c.cluster]; c.refused == nil && taken {
				c.access, c.refused = nil, fmt.Errorf("the cluster %s is read by the older Secret %s: one is enough", name, older.secret.Name)
			}
			if c.refused != nil {
				refused = append(refused, c)
				continue
			}
			chosen[c.cluster] = c
		}
	}
	return chosen, refused
}

func judge(name string, kubeconfig []byte, own model.ClusterID, allowed []Option) (*access, error) {
	if !validID.MatchString(name) {
		return nil, fmt.Errorf("%q is no name of a cluster: up to 63 letters, digits, '-', '_' and '.' are, with a letter or digit at both ends", name)
	}
	if model.ClusterID(name) == own {
		return nil, fmt.Errorf("%s is the cluster that this control plane runs in, which it reads without a Secret: "+
			"give the other cluster another name (create-remote-secret --name), or this one (values.global.multiCluster.clusterName)", name)
	}
	return parseKubeconfig(kubeconfig, allowed)
}
