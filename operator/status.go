package operator

import (
	"fmt"

	"github.com/isthmus-mesh/isthmus/install/render"
	"github.com/isthmus-mesh/isthmus/install/verify"
)

// The states of a resource and of a component, as Istio names them.
const (
	statusHealthy     = "HEALTHY"
	statusReconciling = "RECONCILING"
	statusError       = "ERROR"
)

// status is what a resource's status says.
type status struct {
	Status  string
	Message string
	// Warnings tell of settings that are taken and change nothing.
	Warnings []string
	// Components is the state of each component, and what it waits for.
	Components map[string]componentStatus
}

type componentStatus struct{ Status, Message string }

// summary judges each component by its objects, and the whole by its
// components.
func summary(objs []render.Object, results []verify.Result) status {
	st := status{Status: statusHealthy, Components: map[string]componentStatus{}}
	for i, o := range objs {
		c := st.Components[o.Component]
		if c.Status == "" {
			c.Status = statusHealthy
		}
		if len(results[i].Problems) > 0 && c.Status == statusHealthy {
			c = componentStatus{Status: statusReconciling, Message: fmt.Sprintf("%s: %s", results[i].ID, results[i].Problems[0])}
			if st.Status == statusHealthy {
				st.Status, st.Message = statusReconciling, c.Message
			}
		}
		st.Components[o.Component] = c
	}
	return st
}

// object is the status in its JSON form.
func (s status) object(generation int64) map[string]any {
	out := map[string]any{"status": s.Status, "observedGeneration": generation}
	if s.Message != "" {
		out["message"] = s.Message
	}

	if len(s.Warnings) > 0 {
		list := make([]any, len(s.Warnings))
		for i, w := range s.Warnings {
			list[i] = w
		}
		out["warnings"] = list
	}

	components := map[string]any{}
	for name, c := range s.Components {
		m := map[string]any{"status": c.Status}
		if c.Message != "" {
			m["error"] = c.Message
		}
		components[name] = m
	}

	if len(components) > 0 {
		out["componentStatus"] = components
	}
	return out
}
