package inject

import (
	"strings"
	"testing"
)

// TestStopDelay: an application is told to end only when callers have heard of it.
func TestStopDelay(t *testing.T) {
	const annotated = "metadata: {annotations: {proxy.istio.io/config: '{\"proxyMetadata\": {\"APPLICATION_STOP_DELAY\": \"%\"}}'}}\n"
	with := func(delay, spec string) string { return strings.Replace(annotated, "%", delay, 1) + "spec: " + spec }
	for name, c := range map[string]struct{ pod, hook, warns, fails string }{
		"by default": {
			pod:  "spec: {containers: [{name: a}]}",
			hook: "/application-stops",
		},
		"beside a postStart": {
			pod:  "spec: {containers: [{name: a, lifecycle: {postStart: {exec: {command: [x]}}}}]}",
			hook: "/application-stops",
		},
		"the pod's own hook stays": {
			pod: "spec: {containers: [{name: a, lifecycle: {preStop: {exec: {command: [x]}}}}]}",
		},
		"not for a Job": {
			pod: "spec: {restartPolicy: OnFailure, containers: [{name: a}]}",
		},
		"not when the pod ends at once": {
			pod: "spec: {terminationGracePeriodSeconds: 5, containers: [{name: a}]}",
		},
		"not wanted": {
			pod: with("0s", "{containers: [{name: a}]}"),
		},
		"longer": {
			pod:  with("10s", "{containers: [{name: a}]}"),
			hook: "/application-stops",
		},
		"too long": {
			pod:   with("10s", "{terminationGracePeriodSeconds: 29, containers: [{name: a}]}"),
			warns: "APPLICATION_STOP_DELAY 10s has no effect: it takes a terminationGracePeriodSeconds of 30 or more",
		},
		"no duration": {
			pod:   with("soon", "{containers: [{name: a}]}"),
			fails: `APPLICATION_STOP_DELAY "soon": want a duration like 2s`,
		},
	} {
		for kind, edit := range map[string]func(*Settings){"native": func(*Settings) {}, "plain": plain} {
			t.Run(name+", "+kind, func(t *testing.T) {
				pod, s := podOf(t, c.pod), settings(t, edit)
				if _, _, err := Patch(pod, "bar", s); c.fails != "" {
					if err == nil || !strings.Contains(err.Error(), c.fails) {
						t.Errorf("error %v, want %q", err, c.fails)
					}
					return
				}

				got, warnings := inject(t, pod, s)
				if text := strings.Join(warnings, "\n"); c.warns == "" && text != "" || !strings.Contains(text, c.warns) {
					t.Errorf("warnings %q, want %q", text, c.warns)
				}
				hook := ""
				if l := container(t, got, "a").Lifecycle; l != nil && l.PreStop != nil && l.PreStop.HTTPGet != nil {
					hook = l.PreStop.HTTPGet.Path
					if port := l.PreStop.HTTPGet.Port.IntValue(); port != 15020 {
						t.Errorf("the hook asks port %d", port)
					}
				}
				if hook != c.hook {
					t.Errorf("the hook asks %q, want %q", hook, c.hook)
				}
			})
		}
	}
}
