package apply

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NotReadyError says which Deployments did not get ready, and what their pods
// show.
type NotReadyError struct {
	Deployments []string
	// Findings are lines for people: container states, events, logs.
	Findings []string
	cause    error
}

func (e *NotReadyError) Error() string {
	head := fmt.Sprintf("not ready: %s (%v)", strings.Join(e.Deployments, ", "), e.cause)
	return strings.Join(append([]string{head}, e.Findings...), "\n  ")
}

func (e *NotReadyError) Unwrap() error { return e.cause }

// Bounds of what a diagnosis shows.
const (
	maxPods     = 3
	maxEvents   = 5
	maxLogLines = 10
)

// whyNotReady looks at what a failed wait left, with a few seconds of its own.
func (r *run) whyNotReady(pending map[string]bool, cause error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	e := &NotReadyError{Deployments: slices.Sorted(maps.Keys(pending)), cause: cause}
	for _, key := range e.Deployments {
		ns, name, _ := strings.Cut(key, "/")
		e.Findings = append(e.Findings, r.client.diagnose(ctx, ns, name)...)
	}
	return e
}

// diagnose describes the state of a Deployment's pods.
func (c *Client) diagnose(ctx context.Context, ns, name string) []string {
	d, err := c.kube.AppsV1().Deployments(ns).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return []string{fmt.Sprintf("Deployment %s/%s: %v", ns, name, err)}
	}
	var out []string
	for _, cond := range d.Status.Conditions {
		if cond.Status == corev1.ConditionFalse || string(cond.Type) == "ReplicaFailure" {
			out = append(out, fmt.Sprintf("Deployment %s: %s: %s", name, cond.Reason, cond.Message))
		}
	}
	pods, err := c.kube.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(d.Spec.Selector)})
	if err != nil {
		return append(out, fmt.Sprintf("pods of %s: %v", name, err))
	}
	if len(pods.Items) == 0 {
		out = append(out, "no pod was created")
		return append(out, c.events(ctx, ns, name)...)
	}
	slices.SortFunc(pods.Items, func(a, b corev1.Pod) int { return b.CreationTimestamp.Compare(a.CreationTimestamp.Time) })
	for _, p := range pods.Items[:min(maxPods, len(pods.Items))] {
		out = append(out, c.diagnosePod(ctx, &p)...)
	}
	return out
}

func (c *Client) diagnosePod(ctx context.Context, p *corev1.Pod) []string {
	out := []string{fmt.Sprintf("pod %s: %s", p.Name, cmp.Or(p.Status.Reason, string(p.Status.Phase)))}
	for _, cond := range p.Status.Conditions {
		if cond.Type == corev1.PodScheduled && cond.Status == corev1.ConditionFalse {
			out = append(out, "  not scheduled: "+cond.Message)
		}
	}
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		switch {
		case s.State.Waiting != nil:
			out = append(out, fmt.Sprintf("  container %s: %s %s", s.Name, s.State.Waiting.Reason, s.State.Waiting.Message))
		case s.State.Terminated != nil:
			out = append(out, fmt.Sprintf("  container %s: ended with code %d: %s", s.Name, s.State.Terminated.ExitCode, s.State.Terminated.Reason))
		case !s.Ready:
			out = append(out, fmt.Sprintf("  container %s: running, not ready", s.Name))
		}
		if !s.Ready && (s.State.Running != nil || s.RestartCount > 0 || s.State.Terminated != nil) {
			out = append(out, c.lastLog(ctx, p, s.Name, s.State.Running == nil && s.State.Terminated == nil)...)
		}
	}
	return append(out, c.events(ctx, p.Namespace, p.Name)...)
}

// lastLog returns the end of a container's log, or of its predecessor's.
func (c *Client) lastLog(ctx context.Context, p *corev1.Pod, container string, previous bool) []string {
	lines := int64(maxLogLines)
	s, err := c.kube.CoreV1().Pods(p.Namespace).GetLogs(p.Name, &corev1.PodLogOptions{Container: container, TailLines: &lines, Previous: previous}).Stream(ctx)
	if err != nil {
		return nil
	}
	defer s.Close()
	text, _ := io.ReadAll(io.LimitReader(s, 16<<10))
	var out []string
	for line := range strings.Lines(string(text)) {
		out = append(out, "    log: "+strings.TrimRight(line, "\n"))
	}
	return out
}

// events returns the latest warnings about an object.
func (c *Client) events(ctx context.Context, ns, name string) []string {
	list, err := c.kube.CoreV1().Events(ns).List(ctx, metav1.ListOptions{
		FieldSelector: "involvedObject.name=" + name + ",type=" + corev1.EventTypeWarning,
	})
	if err != nil {
		return nil
	}
	slices.SortFunc(list.Items, func(a, b corev1.Event) int { return a.LastTimestamp.Compare(b.LastTimestamp.Time) })
	items := list.Items[max(0, len(list.Items)-maxEvents):]
	var out []string
	for _, e := range items {
		out = append(out, fmt.Sprintf("  event: %s: %s", e.Reason, strings.ReplaceAll(e.Message, "\n", " ")))
	}
	return out
}
