package stub

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/dns/corefile"
)

// Where the cluster's DNS is, by Kubernetes's own names.
const (
	dnsNamespace = "kube-system"
	dnsSelector  = "k8s-app=kube-dns"
	corefileKey  = "Corefile"
	// touchedAnnotation on a pod has its kubelet look at the pod, and so at
	// the ConfigMap it mounts, at once rather than within two minutes.
	touchedAnnotation = "dns.isthmus.io/corefile-changed"
)

// Options of Apply, Show and Remove.
type Options struct {
	// Zone whose questions go to the mesh; default "global".
	Zone string
	// Namespace and Service of the mesh's DNS server; default istio-system
	// and istiocoredns.
	Namespace, Service string
	// Timeout of the check; default three minutes, which covers the slowest
	// way of a ConfigMap into a pod and CoreDNS's own interval.
	Timeout time.Duration
	// Progress is told what happens, a sentence at a time; nil for silence.
	Progress func(sentence string)
}

func (o *Options) complete() error {
	for s, value := range map[*string]string{&o.Zone: api.DefaultGlobalDomain, &o.Namespace: api.DefaultNamespace, &o.Service: "istiocoredns"} {
		if *s == "" {
			*s = value
		}
	}

	if o.Timeout <= 0 {
		o.Timeout = 3 * time.Minute
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}

	o.Zone = strings.ToLower(strings.Trim(o.Zone, "."))
	if o.Zone == "" || strings.ContainsAny(o.Zone, " \t\r\n{}\"#:/,") {
		return fmt.Errorf("%q is not the name of a zone", o.Zone)
	}
	return nil
}

// cluster is the DNS side of one Kubernetes cluster.
type cluster struct {
	config *rest.Config
	kube   kubernetes.Interface
	o      Options
}

func newCluster(config *rest.Config, o Options) (*cluster, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client for the cluster: %w", err)
	}
	return &cluster{config: config, kube: kube, o: o}, nil
}

func (c *cluster) say(format string, args ...any) { c.o.Progress(fmt.Sprintf(format, args...)) }

// upstreams are the addresses of the mesh's DNS service.
func (c *cluster) upstreams(ctx context.Context) ([]netip.Addr, error) {
	svc, err := c.kube.CoreV1().Services(c.o.Namespace).Get(ctx, c.o.Service, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("there is no Service %s in namespace %s to send %s to; install it with --set addonComponents.istiocoredns.enabled=true", c.o.Service, c.o.Namespace, c.o.Zone)
	}
	if err != nil {
		return nil, fmt.Errorf("read Service %s/%s: %w", c.o.Namespace, c.o.Service, err)
	}

	// The first is of the family that the cluster prefers.
	var out []netip.Addr
	for _, ip := range append([]string{svc.Spec.ClusterIP}, svc.Spec.ClusterIPs...) {
		if a, err := netip.ParseAddr(ip); err == nil && (len(out) == 0 || out[0] != a) {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("the Service %s/%s has no cluster IP; a stub zone needs one", c.o.Namespace, c.o.Service)
	}
	return out[:1], nil
}

// pods are those of CoreDNS that run.
func (c *cluster) pods(ctx context.Context) ([]corev1.Pod, error) {
	list, err := c.kube.CoreV1().Pods(dnsNamespace).List(ctx, metav1.ListOptions{LabelSelector: dnsSelector})
	if err != nil {
		return nil, fmt.Errorf("list the pods of the cluster's DNS: %w", err)
	}
	var out []corev1.Pod
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed && coreDNS(&p) != nil {
			out = append(out, p)
		}
	}
	return out, nil
}

// coreDNS is the container of a pod that runs CoreDNS, or nil.
func coreDNS(p *corev1.Pod) *corev1.Container {
	for i := range p.Spec.Containers {
		if c := &p.Spec.Containers[i]; c.Name == "coredns" || strings.Contains(c.Image, "coredns") {
			return c
		}
	}
	return nil
}

// version asks the image's tag, then the pod's metrics. While CoreDNS is being
// exchanged two versions run: the older one counts, for both must read the file.
func (c *cluster) version(ctx context.Context, pods []corev1.Pod) (corefile.Version, error) {
	oldest, known := corefile.Version{}, false
	for i := range pods {
		v, ok := imageVersion(coreDNS(&pods[i]).Image)
		if !ok {
			text, err := c.buildVersion(ctx, &pods[i])
			if err != nil {
				continue
			}
			if v, ok = corefile.ParseVersion(text); !ok {
				continue
			}
		}
		if !known || !v.AtLeast(oldest.Major, oldest.Minor) {
			oldest, known = v, true
		}
	}

	if !known {
		return oldest, fmt.Errorf("the version of the cluster's CoreDNS is not known: neither the tag of its image nor its metrics tell; are its pods in %s running?", dnsNamespace)
	}
	return oldest, nil
}

// imageVersion reads the tag of an image's name, without a digest.
func imageVersion(image string) (corefile.Version, bool) {
	image, _, _ = strings.Cut(image, "@")
	i := strings.LastIndexByte(image, ':')
	if i < strings.LastIndexByte(image, '/') || i < 0 {
		return corefile.Version{}, false
	}
	return corefile.ParseVersion(image[i+1:])
}

// configMap is the one that CoreDNS reads: the one that its pods mount, or the
// one of the usual name.
func (c *cluster) configMap(ctx context.Context, pods []corev1.Pod) (*corev1.ConfigMap, error) {
	name := "coredns"
	for i := range pods {
		if n := mounted(&pods[i]); n != "" {
			name = n
			break
		}
	}

	cm, err := c.kube.CoreV1().ConfigMaps(dnsNamespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, c.noCoreDNS(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("read ConfigMap %s/%s: %w", dnsNamespace, name, err)
	}
	if _, ok := cm.Data[corefileKey]; !ok {
		return nil, fmt.Errorf("ConfigMap %s/%s has no key %s", dnsNamespace, name, corefileKey)
	}
	return cm, nil
}

// mounted is the ConfigMap that a pod takes its Corefile from.
func mounted(p *corev1.Pod) string {
	for _, v := range p.Spec.Volumes {
		if v.ConfigMap == nil {
			continue
		}
		for _, item := range v.ConfigMap.Items {
			if item.Key == corefileKey {
				return v.ConfigMap.Name
			}
		}
	}
	return ""
}

// noCoreDNS says what the cluster has instead.
func (c *cluster) noCoreDNS(ctx context.Context) error {
	d, err := c.kube.AppsV1().Deployments(dnsNamespace).Get(ctx, "kube-dns", metav1.GetOptions{})
	if err == nil && runsKubeDNS(d) {
		return fmt.Errorf("the cluster's DNS is kube-dns, which is not supported yet; add {%q: [\"ADDRESS OF %s\"]} to stubDomains in its ConfigMap kube-dns by hand", c.o.Zone, c.o.Service)
	}
	return fmt.Errorf("the cluster's DNS is not CoreDNS as this command knows it: %s has no ConfigMap coredns", dnsNamespace)
}

func runsKubeDNS(d *appsv1.Deployment) bool {
	for _, c := range d.Spec.Template.Spec.Containers {
		if strings.Contains(c.Image, "kube-dns") || c.Name == "kubedns" {
			return true
		}
	}
	return false
}

// put writes the Corefile, on condition that the ConfigMap is still the one
// that was read.
func (c *cluster) put(ctx context.Context, cm *corev1.ConfigMap, text string) (*corev1.ConfigMap, error) {
	cm = cm.DeepCopy()
	cm.Data[corefileKey] = text
	out, err := c.kube.CoreV1().ConfigMaps(dnsNamespace).Update(ctx, cm, metav1.UpdateOptions{FieldManager: "isthmus"})
	if err != nil {
		return nil, fmt.Errorf("write ConfigMap %s/%s: %w", dnsNamespace, cm.Name, err)
	}
	return out, nil
}

// spread has the pods take up a new Corefile: by a new start where CoreDNS does
// not watch its file or keeps crashing, else by a nudge to their kubelets.
func (c *cluster) spread(ctx context.Context, text string, pods []corev1.Pod) error {
	f, err := corefile.Parse(text)
	if err != nil {
		return err
	}

	stamp := time.Now().UTC().Format(time.RFC3339Nano)
	if f.Reloads() && !anyCrashing(pods) {
		patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, touchedAnnotation, stamp)
		for i := range pods {
			// It only saves time: who may not do it waits longer.
			_, _ = c.kube.CoreV1().Pods(dnsNamespace).Patch(ctx, pods[i].Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
		}
		return nil
	}

	patch := fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":%q}}}}}`, stamp)
	list, err := c.kube.AppsV1().Deployments(dnsNamespace).List(ctx, metav1.ListOptions{LabelSelector: dnsSelector})
	if err != nil {
		return fmt.Errorf("list the Deployments of the cluster's DNS: %w", err)
	}

	for _, d := range list.Items {
		c.say("CoreDNS is started anew: it does not take up a changed Corefile by itself")
		if _, err := c.kube.AppsV1().Deployments(dnsNamespace).Patch(ctx, d.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("restart Deployment %s/%s: %w", dnsNamespace, d.Name, err)
		}
	}
	return nil
}

func anyCrashing(pods []corev1.Pod) bool {
	for _, p := range pods {
		for _, s := range p.Status.ContainerStatuses {
			if s.State.Waiting != nil && s.State.Waiting.Reason == "CrashLoopBackOff" {
				return true
			}
		}
	}
	return false
}

// probesReady tells whether the pods count as ready only when CoreDNS serves
// the path of its directive ready.
func probesReady(pods []corev1.Pod) bool {
	for i := range pods {
		p := coreDNS(&pods[i]).ReadinessProbe
		if p != nil && p.HTTPGet != nil && p.HTTPGet.Path == "/ready" {
			return true
		}
	}
	return false
}

func ready(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
