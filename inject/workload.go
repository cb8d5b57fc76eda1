package inject

import (
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// workload names what a pod is one of: the Deployment behind its ReplicaSet,
// the CronJob behind its Job, or the pod itself.
type workload struct {
	name string
	// owner is kubernetes://apis/GROUP/VERSION/namespaces/NS/PLURAL/NAME.
	owner string
}

// cronJobName matches the names that the CronJob controller gives to Jobs: the
// scheduled minute is appended.
var cronJobName = regexp.MustCompile(`^(.+)-\d{8,10}$`)

func workloadOf(pod *corev1.Pod, namespace string) workload {
	kind, version, name := "Pod", "v1", pod.Name
	if name == "" {
		name = strings.TrimSuffix(pod.GenerateName, "-")
	}

	if ref := metav1.GetControllerOf(pod); ref != nil {
		kind, version, name = ref.Kind, ref.APIVersion, ref.Name
		hash := pod.Labels["pod-template-hash"]
		if kind == "ReplicaSet" && hash != "" && strings.HasSuffix(name, "-"+hash) {
			kind, name = "Deployment", strings.TrimSuffix(name, "-"+hash)
		} else if m := cronJobName.FindStringSubmatch(name); kind == "Job" && m != nil {
			kind, name = "CronJob", m[1]
		}
	}

	return workload{
		name:  name,
		owner: "kubernetes://apis/" + version + "/namespaces/" + namespace + "/" + plural(kind) + "/" + name,
	}
}

// plural is the resource name of a kind, for the kinds that own pods.
func plural(kind string) string { return strings.ToLower(kind) + "s" }

// canonicalName and canonicalRevision follow the order in which Istio looks
// for them (labels service.istio.io/canonical-*).
func canonicalName(pod *corev1.Pod, w workload) string {
	return labelValue(firstOf(pod.Labels, w.name, "service.istio.io/canonical-name", "app.kubernetes.io/name", "app"))
}

func canonicalRevision(pod *corev1.Pod) string {
	return labelValue(firstOf(pod.Labels, "latest", "service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"))
}

func firstOf(set map[string]string, fallback string, names ...string) string {
	for _, n := range names {
		if v := set[n]; v != "" {
			return v
		}
	}
	return fallback
}

// labelValue cuts a name to what a label may hold: 63 characters, the last
// one a letter or a digit.
func labelValue(s string) string {
	if len(s) > 63 {
		s = s[:63]
	}
	return strings.TrimRight(s, "-._")
}
