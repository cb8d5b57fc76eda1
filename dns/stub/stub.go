package stub

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	meshdns "github.com/isthmus-mesh/isthmus/dns"
	"github.com/isthmus-mesh/isthmus/dns/corefile"
)

// Report is what was found or done.
type Report struct {
	ConfigMap string `json:"configMap"`
	// CoreDNS is the version that runs.
	CoreDNS string `json:"coreDNS"`
	Zone    string `json:"zone"`
	// Service is the address that the zone should go to, "" when the
	// mesh's DNS is not installed.
	Service string `json:"service,omitempty"`
	// Forwards are the servers that the Corefile sends the zone to.
	Forwards []string `json:"forwards,omitempty"`
	// State is "absent", "foreign" (a block that somebody else wrote),
	// "stale" (ours, with another address), or "present".
	State string `json:"state"`
	// Changed is whether the Corefile was written, and Changes why, a line
	// each.
	Changed bool     `json:"changed"`
	Changes []string `json:"changes,omitempty"`
	// Lookups are the answers of CoreDNS's pods to a question that only the
	// mesh's DNS can answer.
	Lookups []Lookup `json:"lookups,omitempty"`
}

// Lookup is one pod's answer, or the reason why there is none.
type Lookup struct {
	Pod    string `json:"pod"`
	Answer string `json:"answer,omitempty"`
	Error  string `json:"error,omitempty"`
}

// Apply sends the zone's questions to the mesh's DNS server. It translates
// directives that the running CoreDNS no longer knows, waits until every
// CoreDNS pod answers through the mesh's server, and puts the old Corefile back
// when they do not within the timeout. Applied twice, it changes nothing.
func Apply(ctx context.Context, config *rest.Config, o Options) (*Report, error) {
	c, err := newCluster(config, o)
	if err != nil {
		return nil, err
	}

	upstreams, err := c.upstreams(ctx)
	if err != nil {
		return nil, err
	}

	stub := corefile.Stub{Zone: c.o.Zone, Upstreams: upstreams}
	r := &Report{Zone: c.o.Zone, Service: upstreams[0].String()}
	var before, after *corev1.ConfigMap
	for { // until nobody else writes between the reading and the writing
		if before, after, err = c.edit(ctx, stub, r); !apierrors.IsConflict(err) {
			break
		}
	}
	if err != nil {
		return nil, err
	}

	started := time.Now()
	if r.Lookups, err = c.verify(ctx); err == nil {
		c.say("%s is answered by %s through every CoreDNS pod (%.1f s)", c.o.Zone, c.o.Service, time.Since(started).Seconds())
		r.State = "present"
		r.Forwards = []string{r.Service}
		return r, nil
	}

	err = fmt.Errorf("%w%s%s", err, c.complaints(started), c.serviceTrouble(ctx))
	if !r.Changed {
		return r, fmt.Errorf("the Corefile is as it should be, but lookups do not work: %w", err)
	}
	return r, c.rollBack(before, after, err)
}

// edit reads the Corefile and writes the new one. When nothing changes, before
// and after are the same.
func (c *cluster) edit(ctx context.Context, stub corefile.Stub, r *Report) (before, after *corev1.ConfigMap, err error) {
	pods, err := c.pods(ctx)
	if err != nil {
		return nil, nil, err
	}

	cm, err := c.configMap(ctx, pods)
	if err != nil {
		return nil, nil, err
	}

	v, err := c.version(ctx, pods)
	if err != nil {
		return nil, nil, err
	}

	r.ConfigMap, r.CoreDNS = cm.Namespace+"/"+cm.Name, v.String()
	old := cm.Data[corefileKey]
	text, err := stub.Set(old, v)
	if err != nil {
		return nil, nil, fmt.Errorf("ConfigMap %s: %w", r.ConfigMap, err)
	}

	added := text != old

	text, r.Changes, err = corefile.Modernise(text, v)
	if err != nil {
		return nil, nil, fmt.Errorf("ConfigMap %s: %w", r.ConfigMap, err)
	}

	if probesReady(pods) {
		var missing bool
		if text, missing, err = corefile.EnsureReady(text); err != nil {
			return nil, nil, fmt.Errorf("ConfigMap %s: %w", r.ConfigMap, err)
		}
		if missing {
			r.Changes = append(r.Changes, "ready is added, which the readiness probe of CoreDNS's pods asks for")
		}
	}

	for _, change := range r.Changes {
		c.say("Corefile, %s (CoreDNS is %s)", change, v)
	}
	if added {
		r.Changes = append(r.Changes, fmt.Sprintf("%s goes to %s", c.o.Zone, r.Service))
		c.say("Corefile: %s goes to %s at %s", c.o.Zone, c.o.Service, r.Service)
	}

	if text == old {
		c.say("the Corefile sends %s to %s already", c.o.Zone, r.Service)
		return cm, cm, nil
	}

	after, err = c.put(ctx, cm, text)
	if err != nil {
		return nil, nil, err
	}
	r.Changed = true
	return cm, after, c.spread(ctx, text, pods)
}

// verify waits until all CoreDNS pods answer.
func (c *cluster) verify(ctx context.Context) ([]Lookup, error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()

	for {
		lookups, err := c.lookups(ctx)
		if err == nil {
			return lookups, nil
		}
		select {
		case <-ctx.Done():
			return lookups, fmt.Errorf("no answer within %v: %w", c.o.Timeout, err)
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// lookups asks each pod once; the error is that of the first pod that fails.
func (c *cluster) lookups(ctx context.Context) ([]Lookup, error) {
	pods, err := c.pods(ctx)
	if err != nil {
		return nil, err
	}

	var out []Lookup
	first := fmt.Errorf("no pod of CoreDNS runs in %s", dnsNamespace)
	for i := range pods {
		if pods[i].Status.Phase != corev1.PodRunning {
			continue // a replica that no node has room for serves nobody
		}
		if len(out) == 0 {
			first = nil
		}

		l := Lookup{Pod: pods[i].Name}
		answer, err := c.lookup(ctx, &pods[i], meshdns.ProbeLabel+"."+c.o.Zone)
		if err == nil && !ready(&pods[i]) {
			err = fmt.Errorf("%s answers, but is not ready", pods[i].Name)
		}

		if err != nil {
			l.Error = err.Error()
			if first == nil {
				first = err
			}
		}
		l.Answer = answer
		out = append(out, l)
	}

	return out, first
}

// rollBack puts the old Corefile back, unless somebody has written another one
// meanwhile. It returns an error in any case: why, and what was done about it.
func (c *cluster) rollBack(before, after *corev1.ConfigMap, why error) error {
	// The caller's context may be what ended the wait.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	text := before.Data[corefileKey]
	restored := after.DeepCopy() // with its resourceVersion: see put
	if _, err := c.put(ctx, restored, text); err != nil {
		return fmt.Errorf("%s does not resolve through the cluster's DNS: %w; the old Corefile could not be put back: %w", c.o.Zone, why, err)
	}

	if pods, err := c.pods(ctx); err == nil {
		// Without it CoreDNS notices on its own, only later.
		_ = c.spread(ctx, text, pods)
	}
	return fmt.Errorf("%s does not resolve through the cluster's DNS, and the old Corefile was put back: %w", c.o.Zone, why)
}

// complaints are CoreDNS's own words on the new Corefile, for an error.
func (c *cluster) complaints(since time.Time) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	pods, err := c.pods(ctx)
	if err != nil {
		return ""
	}

	from := metav1.NewTime(since.Add(-time.Second))
	for i := range pods {
		logs, err := c.kube.CoreV1().Pods(dnsNamespace).GetLogs(pods[i].Name, &corev1.PodLogOptions{Container: coreDNS(&pods[i]).Name, SinceTime: &from}).DoRaw(ctx)
		if err != nil {
			continue
		}
		for _, line := range strings.Split(string(logs), "\n") {
			if strings.Contains(line, "Corefile") && !strings.Contains(line, "INFO") || strings.Contains(line, "Restart failed") {
				return fmt.Sprintf("; %s logs: %s", pods[i].Name, strings.TrimSpace(line))
			}
		}
	}

	return ""
}

// serviceTrouble tells, for an error, that the mesh's DNS itself is not up.
func (c *cluster) serviceTrouble(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()

	slices, err := c.kube.DiscoveryV1().EndpointSlices(c.o.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + c.o.Service})
	if err != nil {
		return ""
	}

	for _, s := range slices.Items {
		for _, e := range s.Endpoints {
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				return ""
			}
		}
	}
	return fmt.Sprintf("; no pod of %s/%s is ready", c.o.Namespace, c.o.Service)
}

// Show reads the Corefile and asks each CoreDNS pod once, without changing
// anything.
func Show(ctx context.Context, config *rest.Config, o Options) (*Report, error) {
	c, err := newCluster(config, o)
	if err != nil {
		return nil, err
	}

	pods, err := c.pods(ctx)
	if err != nil {
		return nil, err
	}

	cm, err := c.configMap(ctx, pods)
	if err != nil {
		return nil, err
	}

	r := &Report{Zone: c.o.Zone, ConfigMap: cm.Namespace + "/" + cm.Name, State: "absent"}
	if v, err := c.version(ctx, pods); err == nil {
		r.CoreDNS = v.String()
	}
	if up, err := c.upstreams(ctx); err == nil {
		r.Service = up[0].String()
	}

	forwards, present, ours, err := corefile.Stub{Zone: c.o.Zone}.Find(cm.Data[corefileKey])
	if err != nil {
		return nil, fmt.Errorf("ConfigMap %s: %w", r.ConfigMap, err)
	}
	if !present {
		return r, nil
	}

	r.Forwards = forwards
	switch {
	case !ours:
		r.State = "foreign"
	case len(forwards) != 1 || forwards[0] != r.Service:
		r.State = "stale"
	default:
		r.State = "present"
	}

	r.Lookups, err = c.lookups(ctx)
	if err != nil && len(r.Lookups) == 0 {
		return r, err
	}
	return r, nil
}

// Remove takes out what Apply wrote. A block that somebody else wrote stays.
func Remove(ctx context.Context, config *rest.Config, o Options) (*Report, error) {
	c, err := newCluster(config, o)
	if err != nil {
		return nil, err
	}
	for {
		r, err := c.remove(ctx)
		if !apierrors.IsConflict(err) {
			return r, err
		}
	}
}

func (c *cluster) remove(ctx context.Context) (*Report, error) {
	pods, err := c.pods(ctx)
	if err != nil {
		return nil, err
	}

	cm, err := c.configMap(ctx, pods)
	if err != nil {
		return nil, err
	}

	r := &Report{Zone: c.o.Zone, ConfigMap: cm.Namespace + "/" + cm.Name, State: "absent"}
	text, found, err := corefile.Stub{Zone: c.o.Zone}.Remove(cm.Data[corefileKey])
	if err != nil {
		return nil, fmt.Errorf("ConfigMap %s: %w", r.ConfigMap, err)
	}

	if !found {
		c.say("the Corefile has no block of ours for %s", c.o.Zone)
		return r, nil
	}
	if _, err := c.put(ctx, cm, text); err != nil {
		return nil, err
	}

	r.Changed, r.Changes = true, []string{c.o.Zone + " is no longer sent to the mesh"}
	c.say("%s is taken out of the Corefile", c.o.Zone)
	return r, c.spread(ctx, text, pods)
}
