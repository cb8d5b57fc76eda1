package inject

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
)

// maxReview bounds a request's body in bytes; the API server's own limit on an
// object is below half of it.
const maxReview = 8 << 20

// Config is what the webhook handler depends on.
type Config struct {
	// Source gives the settings for each request. It is needed.
	Source Source
	// NamespaceLabels returns a namespace's labels, and whether they are
	// known. Without it, or for a namespace that is not known yet, the
	// selectors of the webhook configuration decide alone.
	NamespaceLabels func(namespace string) (labels map[string]string, known bool)
	// Logger defaults to slog.Default().
	Logger *slog.Logger
	// Registerer takes the sidecar_injection_* counters; nil keeps them to
	// the handler.
	Registerer prometheus.Registerer
}

// NewHandler returns the mutating webhook for pods: it reads an
// AdmissionReview (admission.k8s.io/v1) and answers with a patch, with the pod
// untouched, or with a refusal that says why. It panics when Config has no
// Source, or when its metrics are registered already.
func NewHandler(c Config) http.Handler {
	if c.Source == nil {
		panic("inject.NewHandler: Config.Source is nil")
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	h := &handler{config: c, log: c.Logger, counters: newCounters()}
	if c.Registerer != nil {
		c.Registerer.MustRegister(h.counters.requests, h.counters.success, h.counters.failure, h.counters.skip)
	}
	return h
}

// counters carry the names that dashboards made for Istio look for.
type counters struct{ requests, success, failure, skip prometheus.Counter }

func newCounters() counters {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	return counters{
		requests: counter("sidecar_injection_requests_total", "Pods that the injection webhook was asked about."),
		success:  counter("sidecar_injection_success_total", "Pods that were given a proxy."),
		failure:  counter("sidecar_injection_failure_total", "Pods that were refused because they could not be given a proxy."),
		skip:     counter("sidecar_injection_skip_total", "Pods that were left without a proxy on purpose."),
	}
}

type handler struct {
	config   Config
	log      *slog.Logger
	counters counters
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := api.ServeReview(w, r, maxReview, h.admit); err != nil {
		h.counters.requests.Inc()
		h.counters.failure.Inc()
		h.log.Error("injection request not understood", "err", err)
	}
}

// admit answers a request for a pod.
func (h *handler) admit(req *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	h.counters.requests.Inc()
	if req.Operation != admissionv1.Create {
		return &admissionv1.AdmissionResponse{Allowed: true}
	}

	var pod corev1.Pod
	if req.Kind.Kind != "Pod" || req.Kind.Group != "" {
		return h.refuse(req, &pod, fmt.Errorf("the webhook was asked about a %s, and injects only pods; correct its rules", req.Kind.Kind))
	}
	if err := json.Unmarshal(req.Object.Raw, &pod); err != nil {
		return h.refuse(req, &pod, fmt.Errorf("the pod does not decode: %w", err))
	}

	settings, err := h.config.Source.Settings()
	if err != nil {
		return h.refuse(req, &pod, err)
	}

	decision, err := Decide(&pod, req.Namespace, h.namespaceLabels(req.Namespace), settings)
	if err != nil {
		return h.refuse(req, &pod, err)
	}
	if !decision.Inject {
		return h.skip(req, &pod, decision)
	}

	patch, warnings, err := Patch(&pod, req.Namespace, settings)
	if err != nil {
		return h.refuse(req, &pod, err)
	}

	h.counters.success.Inc()
	h.log.Debug("pod injected", "namespace", req.Namespace, "pod", podName(&pod, req), "because", decision.Reason)
	return patched(patch, warnings)
}

func (h *handler) namespaceLabels(namespace string) map[string]string {
	if h.config.NamespaceLabels == nil {
		return nil
	}
	set, known := h.config.NamespaceLabels(namespace)
	if !known {
		return nil
	}
	if set == nil {
		set = map[string]string{}
	}
	return set
}

func (h *handler) skip(req *admissionv1.AdmissionRequest, pod *corev1.Pod, d Decision) *admissionv1.AdmissionResponse {
	h.counters.skip.Inc()
	level := slog.LevelDebug
	resp := &admissionv1.AdmissionResponse{Allowed: true}
	if d.Impossible {
		level = slog.LevelWarn
		ops, err := json.Marshal(mapOps("/metadata/annotations", pod.Annotations, map[string]string{SkippedAnnotation: d.Reason}))
		if err != nil {
			return h.refuse(req, pod, fmt.Errorf("encode the patch: %w", err))
		}
		resp = patched(ops, []string{"the pod stays outside the mesh: " + d.Reason})
	}

	h.log.Log(context.Background(), level, "pod left without a proxy", "namespace", req.Namespace, "pod", podName(pod, req), "because", d.Reason)
	return resp
}

func (h *handler) refuse(req *admissionv1.AdmissionRequest, pod *corev1.Pod, err error) *admissionv1.AdmissionResponse {
	h.counters.failure.Inc()
	h.log.Error("pod refused: it cannot be given its proxy", "namespace", req.Namespace, "pod", podName(pod, req), "err", err)
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{
		Status:  metav1.StatusFailure,
		Reason:  metav1.StatusReasonInvalid,
		Code:    http.StatusUnprocessableEntity,
		Message: "sidecar injection: " + err.Error(),
	}}
}

func patched(patch []byte, warnings []string) *admissionv1.AdmissionResponse {
	kind := admissionv1.PatchTypeJSONPatch
	return &admissionv1.AdmissionResponse{Allowed: true, Patch: patch, PatchType: &kind, Warnings: warnings}
}

func podName(pod *corev1.Pod, req *admissionv1.AdmissionRequest) string {
	switch {
	case pod.Name != "":
		return pod.Name
	case pod.GenerateName != "":
		return pod.GenerateName + "?"
	}
	return req.Name
}
