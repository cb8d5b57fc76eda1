package compile

import (
	"fmt"
	"slices"

	"github.com/isthmus-mesh/isthmus/model"
)

// SidecarNotes says of Sidecars, all of a cluster, by their key, which change nothing,
// or not for all that they are meant for: an older one of their namespace holds for
// all workloads, too.
func SidecarNotes(all []*model.Sidecar) map[string][]string {
	out := map[string][]string{}
	first := map[string]*model.Sidecar{}
	for _, s := range slices.SortedFunc(slices.Values(all), (*model.Sidecar).CompareAge) {
		if s.Selector != nil {
			continue
		}
		if older := first[s.Namespace]; older != nil {
			out[s.Key()] = []string{fmt.Sprintf("changes nothing: Sidecar %s/%s, which is older, holds for all workloads of the namespace; "+
				"give one of them spec.workloadSelector, or put both into one object", older.Namespace, older.Name)}
			continue
		}
		first[s.Namespace] = s
	}
	return out
}
