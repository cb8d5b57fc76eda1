package inject

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/isthmus-mesh/isthmus/api"
)

// Decision says whether a pod gets a proxy, and why.
type Decision struct {
	Inject bool
	// Reason is a sentence part for logs and annotations.
	Reason string
	// Impossible marks a pod that was selected and cannot be in the mesh as
	// it is written: the reason is put on the pod for its owner to see.
	Impossible bool
}

// unmeshed are the namespaces whose pods never get a proxy: the cluster needs
// them before any webhook answers.
func unmeshed(namespace string) bool {
	switch namespace {
	case "kube-system", "kube-public", "kube-node-lease", "local-path-storage":
		return true
	}
	return false
}

// Decide tells whether the pod is to be injected by this control plane.
// namespaceLabels are the labels of its namespace; nil means that they are not
// known and that the caller has selected the namespace by other means (the
// webhook configuration's selectors, or a user who typed kube-inject). An
// error is a label or annotation that cannot be read, named in it.
func Decide(pod *corev1.Pod, namespace string, namespaceLabels map[string]string, s *Settings) (Decision, error) {
	if unmeshed(namespace) {
		return Decision{Reason: "namespace " + namespace + " is never injected"}, nil
	}
	if _, ok := pod.Annotations[StatusAnnotation]; ok {
		return Decision{Reason: "it is injected already"}, nil
	}

	selected, err := selects(pod, namespaceLabels, s)
	if err != nil || !selected.Inject {
		return selected, err
	}

	switch {
	case foreignProxy(pod):
		return Decision{Impossible: true, Reason: fmt.Sprintf("it has a container %s of its own; with the image %q, it would be laid over the injected one", ProxyContainer, autoImage)}, nil
	case pod.Spec.HostNetwork && pod.Annotations[templatesAnnotation] != gatewayTemplate:
		return Decision{Impossible: true, Reason: "the pod uses the host's network, where redirecting its traffic would redirect the node's"}, nil
	case pod.Spec.OS != nil && pod.Spec.OS.Name == corev1.Windows:
		return Decision{Impossible: true, Reason: "the pod runs on Windows, for which there is no proxy"}, nil
	}
	return selected, nil
}

// foreignProxy tells whether the pod brings a proxy of its own, complete with
// its image: injection has no say in it.
func foreignProxy(pod *corev1.Pod) bool {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == ProxyContainer && list[i].Image != autoImage {
				return true
			}
		}
	}
	return false
}

// selects applies the labels and annotations in their order of strength: the
// pod's own word, the selectors in the values, the pod's revision, the
// namespace.
func selects(pod *corev1.Pod, namespaceLabels map[string]string, s *Settings) (Decision, error) {
	if said, yes, err := ownWord(pod); err != nil {
		return Decision{}, err
	} else if said != "" {
		return Decision{Inject: yes, Reason: said}, nil
	}

	hook := s.Values.SidecarInjectorWebhook
	if hit, err := matchesAny(hook.NeverInjectSelector, pod.Labels); err != nil {
		return Decision{}, fmt.Errorf("sidecarInjectorWebhook.neverInjectSelector: %w", err)
	} else if hit {
		return Decision{Reason: "neverInjectSelector matches the pod"}, nil
	}

	if hit, err := matchesAny(hook.AlwaysInjectSelector, pod.Labels); err != nil {
		return Decision{}, fmt.Errorf("sidecarInjectorWebhook.alwaysInjectSelector: %w", err)
	} else if hit {
		return Decision{Inject: true, Reason: "alwaysInjectSelector matches the pod"}, nil
	}

	if rev := pod.Labels[api.LabelRevision]; rev != "" {
		return byRevision("pod", rev, s), nil
	}
	if namespaceLabels == nil {
		return Decision{Inject: true, Reason: "its namespace was selected"}, nil
	}
	return byNamespace(namespaceLabels, s)
}

// ownWord reads the pod's own label or annotation; said is "" without one.
func ownWord(pod *corev1.Pod) (said string, yes bool, err error) {
	kind, value, ok := "label", "", false
	if value, ok = pod.Labels[InjectName]; !ok {
		kind = "annotation"
		if value, ok = pod.Annotations[InjectName]; !ok {
			return "", false, nil
		}
	}

	yes, err = parseBool(value)
	if err != nil {
		return "", false, fmt.Errorf("%s %s: %w", kind, InjectName, err)
	}
	return fmt.Sprintf("its %s %s is %q", kind, InjectName, value), yes, nil
}

func byNamespace(nsLabels map[string]string, s *Settings) (Decision, error) {
	rev := nsLabels[api.LabelRevision]
	switch v := nsLabels[api.LabelInjection]; v {
	case "enabled":
		if s.revision() != api.DefaultRevision && rev == "" {
			return Decision{Reason: "its namespace is injected by the default revision, not by " + s.revision()}, nil
		}
		return Decision{Inject: true, Reason: "its namespace has the label " + api.LabelInjection + "=enabled"}, nil
	case "disabled":
		return Decision{Reason: "its namespace has the label " + api.LabelInjection + "=disabled"}, nil
	case "":
	default:
		return Decision{}, fmt.Errorf("label %s of the namespace: %q is neither enabled nor disabled", api.LabelInjection, v)
	}

	if rev != "" {
		return byRevision("namespace", rev, s), nil
	}
	if s.Values.SidecarInjectorWebhook.EnableNamespacesByDefault && s.revision() == api.DefaultRevision {
		return Decision{Inject: true, Reason: "namespaces are injected by default"}, nil
	}
	return Decision{Reason: "neither the pod nor its namespace asks for a proxy"}, nil
}

func byRevision(what, rev string, s *Settings) Decision {
	reason := fmt.Sprintf("its %s has the label %s=%s", what, api.LabelRevision, rev)
	if rev != s.revision() {
		return Decision{Reason: reason + ", and this is revision " + s.revision()}
	}
	return Decision{Inject: true, Reason: reason}
}

func matchesAny(selectors []metav1.LabelSelector, set map[string]string) (bool, error) {
	for i := range selectors {
		sel, err := metav1.LabelSelectorAsSelector(&selectors[i])
		if err != nil {
			return false, fmt.Errorf("[%d]: %w", i, err)
		}
		if !sel.Empty() && sel.Matches(labels.Set(set)) {
			return true, nil
		}
	}
	return false, nil
}

// parseBool reads the spellings that YAML writers use.
func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "y", "yes", "true", "on", "enabled":
		return true, nil
	case "n", "no", "false", "off", "disabled":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false", s)
}
