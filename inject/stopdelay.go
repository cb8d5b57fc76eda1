package inject

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// stopDelayEnv says, in proxyMetadata, how long an application is left alone
	// once its pod begins to end: a duration, 0s for not at all.
	stopDelayEnv = "APPLICATION_STOP_DELAY"
	// stopDelay is how long that is when nobody says anything: callers hear of the
	// end within a second or so (EndpointSlice, discovery, proxy).
	stopDelay = 2 * time.Second
	// stopDelayPath is where the status server answers after that time.
	stopDelayPath = "/application-stops"
	// graceShare is which part of the pod's grace period the delay may take: the
	// rest is the application's.
	graceShare = 3
	// defaultGrace is Kubernetes's terminationGracePeriodSeconds.
	defaultGrace = 30
)

// stopDelayOps gives the application's containers a hook that holds their SIGTERM
// up. Callers learn that the pod ends at the same moment as the kubelet does; an
// application that closes its port at once would turn connections away that were
// under way to it. Requests are handed back to the caller's proxy then, but TCP
// connections, and whoever calls without a proxy, have nobody to do that.
//
// A container that has a hook of its own keeps it, and a pod that is not restarted,
// as a Job's, serves nobody.
func (b *builder) stopDelayOps() ([]operation, error) {
	delay, asked := stopDelay, false
	if text := b.proxyConfig.ProxyMetadata[stopDelayEnv]; text != "" {
		var err error
		if delay, err = time.ParseDuration(text); err != nil || delay < 0 {
			return nil, fmt.Errorf("proxy configuration: proxyMetadata: %s %q: want a duration like 2s", stopDelayEnv, text)
		}
		asked = true
	}

	spec := &b.pod.Spec
	if delay == 0 || spec.RestartPolicy == corev1.RestartPolicyNever || spec.RestartPolicy == corev1.RestartPolicyOnFailure {
		return nil, nil
	}
	grace := time.Duration(orElse(spec.TerminationGracePeriodSeconds, defaultGrace)) * time.Second
	if graceShare*delay > grace {
		if asked {
			b.warnings = append(b.warnings, fmt.Sprintf("%s %s has no effect: it takes a terminationGracePeriodSeconds of %d or more",
				stopDelayEnv, delay, int64((graceShare*delay+time.Second-1)/time.Second)))
		}
		return nil, nil
	}

	var ops []operation
	for i := range spec.Containers {
		path := "/spec/containers/" + strconv.Itoa(i) + "/lifecycle"
		hook := map[string]any{"httpGet": statusGet(stopDelayPath)}
		switch l := spec.Containers[i].Lifecycle; {
		case l == nil:
			ops = append(ops, addOp(path, map[string]any{"preStop": hook}))
		case l.PreStop == nil:
			ops = append(ops, addOp(path+"/preStop", hook))
		}
	}
	return ops, nil
}
