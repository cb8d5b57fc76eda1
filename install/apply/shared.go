package apply

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/install/render"
)

// Foreign tells whether an object that other controllers install as well is one of
// theirs: it does not bear the mark that all of ours have. It may be newer or older
// than ours; whoever has installed it looks after it.
func Foreign(intent, live *unstructured.Unstructured) bool {
	if live == nil || !render.IsShared(intent) {
		return false
	}
	return live.GetLabels()[render.ManagedByLabel] != intent.GetLabels()[render.ManagedByLabel]
}
