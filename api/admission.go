package api

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxReview bounds the body of a request in bytes: etcd takes no object above
// 1.5 MB, and a review holds two.
const maxReview = 4 << 20

// ValidatorConfig sets up the validating webhook.
type ValidatorConfig struct {
	// Logger takes a line per refusal; slog.Default() when nil.
	Logger *slog.Logger
	// Check, when set, holds a valid object against the rest of the cluster:
	// an error refuses it, warnings are shown to who applies it.
	Check func(*Object) (warnings []string, err error)
	// Observe, when set, is called for each decision: with the kind, or with
	// "other" for one that nothing here knows, since whoever reaches the
	// webhook may name any.
	Observe func(kind string, allowed bool)
}

// NewValidator returns the handler of the validating webhook
// (admission.k8s.io/v1). It refuses objects that Decode refuses, with Decode's
// error, and lets deletions and every kind of foreign groups pass.
func NewValidator(cfg ValidatorConfig) http.Handler {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Observe == nil {
		cfg.Observe = func(string, bool) {}
	}
	return &validator{cfg}
}

type validator struct{ cfg ValidatorConfig }

// ServeHTTP implements http.Handler. A body that is no AdmissionReview is answered
// as such, and nobody else need know of it.
func (v *validator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = ServeReview(w, r, maxReview, v.admit)
}

// admit answers a request.
func (v *validator) admit(req *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	response := &admissionv1.AdmissionResponse{Allowed: true}
	warnings, err := v.check(req)
	response.Warnings = warnings
	if err != nil {
		response.Allowed = false
		response.Result = &metav1.Status{
			Status: metav1.StatusFailure, Reason: metav1.StatusReasonInvalid,
			Code: http.StatusUnprocessableEntity, Message: err.Error(),
		}
		v.cfg.Logger.Info("refused a configuration object",
			"kind", clip(req.Kind.Kind), "namespace", clip(req.Namespace), "name", clip(req.Name), "error", clip(err.Error()))
	}
	v.cfg.Observe(knownKind(req.Kind.Kind), response.Allowed)
	return response
}

// knownKind is the kind, or "other".
func knownKind(kind string) string {
	if newSpec(Kind(kind)) != nil {
		return kind
	}
	if _, known := notHonoured(kind); known {
		return kind
	}
	return "other"
}

// clip cuts a caller's text to what a log line has room for.
func clip(s string) string {
	const room = 2 << 10
	if len(s) <= room {
		return s
	}
	return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(s[:room], ""), len(s))
}

// check tells whether an operation may go on, and what it asks for without
// effect.
func (v *validator) check(req *admissionv1.AdmissionRequest) (warnings []string, err error) {
	if req.Operation != admissionv1.Create && req.Operation != admissionv1.Update {
		return nil, nil
	}
	obj, warnings, err := Check(req.Object.Raw, req.Kind.Group, req.Kind.Kind, req.Namespace)
	if err != nil || obj == nil {
		return nil, err
	}

	if v.cfg.Check != nil {
		more, err := v.cfg.Check(obj)
		if err != nil {
			return nil, err
		}
		warnings = append(warnings, more...)
	}
	return warnings, nil
}

// Check is what the validating webhook says of an object that is to be, as far as it
// can be said without looking at the rest of the cluster: an error refuses it, and
// warnings tell what it asks for without effect. raw is the object as JSON, namespace
// where it would be, should it not say so. Of a kind that is none of the mesh's
// nothing is said: the object is nil then.
func Check(raw []byte, group, kind, namespace string) (obj *Object, warnings []string, err error) {
	var head struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
	}
	if json.Unmarshal(raw, &head) == nil {
		if _, asked := head.Metadata.Annotations[annotationAlwaysReject]; asked {
			return nil, nil, errAlwaysReject()
		}
	}

	if newSpec(Kind(kind)) == nil {
		if _, known := notHonoured(kind); known {
			return nil, nil, &NotHonouredError{Kind: kind}
		}
		return nil, nil, nil
	}
	if group != GroupNetworking && group != GroupSecurity {
		return nil, nil, nil
	}

	if obj, err = Decode(raw); err != nil {
		return nil, nil, err
	}
	if obj.Namespace == "" {
		// A client may leave it to the address of the request.
		obj.Namespace = namespace
	}
	return obj, Warnings(obj), nil
}
